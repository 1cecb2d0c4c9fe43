package server

import (
	"bytes"
	"cmp"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"math"
	"net/http"
	"reflect"
	"strings"
	"time"

	"ds4/runtime/kvstore"
)

// maxAdminBytes bounds the body of a request about the disk cache.
const maxAdminBytes = 64 << 10

// kvPurge is the body of POST /v1/kv/purge. All of its filters must hold; see
// kvstore.Selection.
type kvPurge struct {
	// Holder is the key in the lock file of the folder that is meant. A tool that
	// found this server through the file sends it, so that another server at the
	// same address keeps its cache.
	Holder           string  `json:"holder"`
	All              bool    `json:"all"`
	Quarantine       bool    `json:"quarantine"`
	OlderThanSeconds float64 `json:"older_than_seconds"`
	Identity         string  `json:"identity"`
	NotIdentity      string  `json:"not_identity"`
	KeepBytes        *int64  `json:"keep_bytes"`
	DryRun           bool    `json:"dry_run"`
}

// kvPurged is the answer.
type kvPurged struct {
	Segments    int               `json:"segments"`
	Quarantined int               `json:"quarantined"`
	Others      int               `json:"others"`
	Bytes       int64             `json:"bytes"` // of all of them
	Kept        int               `json:"kept"`  // selected, but needed by what stays or by a request
	Failed      int               `json:"failed"`
	Files       []kvstore.FileRef `json:"files"`
}

func (q *kvPurge) selection() (kvstore.Selection, error) {
	sel := kvstore.Selection{All: q.All, Quarantine: q.Quarantine, Identity: q.Identity, KeepBytes: q.KeepBytes, DryRun: q.DryRun}
	if s := q.OlderThanSeconds; s != 0 {
		if !(s > 0 && s < math.MaxInt64/float64(time.Second)) {
			return sel, badField("older_than_seconds", "%v is no age in seconds", s)
		}
		sel.OlderThan = time.Duration(s * float64(time.Second))
	}
	if q.NotIdentity != "" {
		id, err := hex.DecodeString(q.NotIdentity)
		if err != nil || len(id) != 32 {
			return sel, badField("not_identity", "want 64 hex digits")
		}
		sel.NotOf = (*[32]byte)(id)
	}
	if err := sel.Check(); err != nil {
		return sel, badRequest("%s", strings.TrimPrefix(err.Error(), kvstore.ErrSelection.Error()+": "))
	}
	return sel, nil
}

// handleKVPurge serves POST /v1/kv/purge: it removes a selection of the disk cache.
func (s *Server) handleKVPurge(w http.ResponseWriter, r *http.Request) error {
	var q kvPurge
	if err := s.readAdmin(w, r, &q, &q.Holder); err != nil {
		return err
	}
	sel, err := q.selection()
	if err != nil {
		return err
	}
	rep, err := s.cfg.Store.Purge(r.Context(), sel)
	if err != nil {
		return fromStore(err)
	}
	if sel.All && !sel.DryRun {
		s.forgetCalls()
	}
	body := kvPurged{rep.Segments, rep.Quarantined, rep.Others, rep.Bytes, rep.Kept, rep.Failed, rep.Files}
	if body.Files == nil {
		body.Files = []kvstore.FileRef{}
	}
	return s.writeJSON(w, http.StatusOK, body)
}

// kvRestore is the body of POST /v1/kv/restore.
type kvRestore struct {
	Holder string `json:"holder"` // as in kvPurge
	Name   string `json:"name"`   // of a file of the quarantine, without its ending
}

// handleKVRestore serves POST /v1/kv/restore: it puts a quarantined segment back after
// a full check.
func (s *Server) handleKVRestore(w http.ResponseWriter, r *http.Request) error {
	var q kvRestore
	if err := s.readAdmin(w, r, &q, &q.Holder); err != nil {
		return err
	}
	if q.Name == "" {
		return missing("name")
	}
	ref, err := s.cfg.Store.Readmit(q.Name)
	if err != nil {
		return fromStore(err)
	}
	return s.writeJSON(w, http.StatusOK, ref)
}

// readAdmin reads a request about the disk cache and checks that it means this one.
func (s *Server) readAdmin(w http.ResponseWriter, r *http.Request, q any, holder *string) error {
	if s.cfg.Store == nil {
		return &apiError{status: http.StatusConflict, Type: typeInvalid, Message: "the server has no disk cache"}
	}
	body, release, err := s.readBody(w, r, maxAdminBytes)
	if err != nil {
		return err
	}
	defer release()
	dec := json.NewDecoder(bytes.NewReader(body))
	dec.DisallowUnknownFields() // a filter with a typing error must not select more
	if err := dec.Decode(q); err != nil {
		return badAdmin(err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return badJSON("something follows the object")
	}
	if *holder != "" && *holder != s.cfg.Store.HoldingKey() {
		return &apiError{status: http.StatusConflict, Type: typeInvalid,
			Message: "holder: this server does not hold the folder that is meant"}
	}
	return nil
}

// badAdmin says what encoding/json found wrong, without the names of Go's types.
func badAdmin(err error) error {
	var wrong *json.UnmarshalTypeError
	switch {
	case errors.As(err, &wrong) && wrong.Field != "":
		want := map[reflect.Kind]string{reflect.Bool: "true or false", reflect.String: "a string", reflect.Float64: "a number"}[wrong.Type.Kind()]
		return badField(wrong.Field, "want %s, got %.32s", cmp.Or(want, "a whole number"), wrong.Value)
	case errors.As(err, &wrong):
		return badJSON("want an object, got %.32s", wrong.Value)
	}
	return badJSON("%s", strings.TrimPrefix(jsonFault(err), "json: "))
}

// fromStore says how an error of the disk cache reaches the client.
func fromStore(err error) error {
	message := "kv cache: " + strings.TrimPrefix(err.Error(), "kvstore: ")
	for _, x := range []struct {
		of     error
		status int
	}{
		{kvstore.ErrReadOnly, http.StatusConflict},
		{kvstore.ErrNotReadmitted, http.StatusConflict},
		{kvstore.ErrNotFound, http.StatusNotFound},
	} {
		if errors.Is(err, x.of) {
			return &apiError{status: x.status, Type: typeInvalid, Message: message}
		}
	}
	if errors.Is(err, kvstore.ErrBusy) || errors.Is(err, kvstore.ErrUnavailable) {
		return &apiError{status: http.StatusServiceUnavailable, retryAfter: retryKV, Type: typeServer, Message: message}
	}
	return err
}
