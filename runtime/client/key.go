package client

import "net/http"

// WithKey returns a client that sends an API key with every request; an empty key
// is none.
func (c *Client) WithKey(key string) *Client {
	if key == "" {
		return c
	}
	keyed, inner := *c, *c.http
	inner.Transport = keyTransport{key, c.http.Transport}
	keyed.http = &inner
	return &keyed
}

type keyTransport struct {
	key   string
	inner http.RoundTripper
}

// RoundTrip sends a copy of the request that has the key.
func (t keyTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set("Authorization", "Bearer "+t.key)
	return t.inner.RoundTrip(r)
}
