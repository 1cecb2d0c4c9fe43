package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"testing"
)

// TestKVAdmin: what is selected reaches the server as it is, and what the server
// refuses reaches the caller in its words.
func TestKVAdmin(t *testing.T) {
	bodies := map[string]string{}
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		data, _ := io.ReadAll(r.Body)
		bodies[r.URL.Path] = string(data)
		switch r.URL.Path {
		case "/v1/kv/purge":
			fmt.Fprint(w, `{"segments":2,"kept":1,"bytes":30,"files":[{"name":"aa","from":0,"to":9,"bytes":30}]}`)
		case "/v1/kv/restore":
			w.WriteHeader(http.StatusConflict)
			fmt.Fprint(w, `{"error":{"message":"not restored: damaged","type":"invalid_request_error"}}`)
		}
	})
	keep := int64(0)
	got, err := c.PurgeKV(context.Background(), KVPurge{Holder: "k", OlderThanSeconds: 1.5, KeepBytes: &keep})
	if err != nil || got.Segments != 2 || got.Kept != 1 || len(got.Files) != 1 || got.Files[0].To != 9 {
		t.Errorf("%+v %v", got, err)
	}
	if want := `{"holder":"k","older_than_seconds":1.5,"keep_bytes":0}`; bodies["/v1/kv/purge"] != want {
		t.Errorf("sent %s, want %s", bodies["/v1/kv/purge"], want)
	}
	_, err = c.RestoreKV(context.Background(), "k", "aa.17.torn")
	var answer *Error
	if !errors.As(err, &answer) || answer.Status != http.StatusConflict || answer.Message != "not restored: damaged" {
		t.Errorf("%v", err)
	}
	if want := `{"holder":"k","name":"aa.17.torn"}`; bodies["/v1/kv/restore"] != want {
		t.Errorf("sent %s", bodies["/v1/kv/restore"])
	}
}
