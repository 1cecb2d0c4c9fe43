package server

import (
	"crypto/sha256"
	"crypto/subtle"
	"net/http"
	"strings"
)

// codeInvalidKey is the code of a request without a key that is allowed in.
const codeInvalidKey = "invalid_api_key"

// openPaths need no key: whoever watches a process has none, and the page is the
// same for everybody. All else, /metrics included, needs one.
var openPaths = map[string]bool{"/healthz": true, "/": true}

// keyring holds the hashes of the keys that are allowed in; an empty one lets
// everybody in. Hashes have one length, so comparing takes the same time whatever
// a client sends.
type keyring [][sha256.Size]byte

func newKeyring(keys []string) keyring {
	var k keyring
	for _, key := range keys {
		k = append(k, sha256.Sum256([]byte(key)))
	}
	return k
}

// holds looks at every key, also after it has found the right one.
func (k keyring) holds(key string) bool {
	sum, found := sha256.Sum256([]byte(key)), 0
	for i := range k {
		found |= subtle.ConstantTimeCompare(sum[:], k[i][:])
	}
	return found == 1
}

// authorize refuses a request without a key that is allowed in, as
// "Authorization: Bearer KEY", which OpenAI's clients send, or "x-api-key: KEY",
// which Anthropic's do.
func (s *Server) authorize(w http.ResponseWriter, r *http.Request) error {
	if len(s.keys) == 0 || openPaths[r.URL.Path] {
		return nil
	}
	key, bearer := r.Header.Get("X-Api-Key"), ""
	if scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " "); strings.EqualFold(scheme, "Bearer") {
		bearer = strings.TrimSpace(token)
	}
	// Some clients send both, each from a setting of its own: one that is right is enough.
	if left, right := s.keys.holds(key), s.keys.holds(bearer); left || right {
		return nil
	}
	message := "incorrect API key"
	if key == "" && bearer == "" {
		message = "this server wants an API key: send Authorization: Bearer KEY, or x-api-key: KEY"
	}
	w.Header().Set("WWW-Authenticate", `Bearer realm="ds4"`)
	return &apiError{status: http.StatusUnauthorized, Type: typeInvalid, Code: codeInvalidKey, Message: message}
}
