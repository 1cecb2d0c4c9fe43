package client

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
)

// KVPurge selects what POST /v1/kv/purge removes. All of its filters must hold.
type KVPurge struct {
	Holder           string  `json:"holder,omitempty"` // key of the folder's lock file: refused if the server has another folder
	All              bool    `json:"all,omitempty"`
	Quarantine       bool    `json:"quarantine,omitempty"`
	OlderThanSeconds float64 `json:"older_than_seconds,omitempty"`
	Identity         string  `json:"identity,omitempty"`
	NotIdentity      string  `json:"not_identity,omitempty"`
	KeepBytes        *int64  `json:"keep_bytes,omitempty"`
	DryRun           bool    `json:"dry_run,omitempty"`
}

// KVPurged is what was removed.
type KVPurged struct {
	Segments    int      `json:"segments"`
	Quarantined int      `json:"quarantined"`
	Others      int      `json:"others"`
	Bytes       int64    `json:"bytes"`
	Kept        int      `json:"kept"`
	Failed      int      `json:"failed"`
	Files       []KVFile `json:"files"`
}

// KVFile is one file of a cache.
type KVFile struct {
	Name    string `json:"name"`
	From    int    `json:"from"`
	To      int    `json:"to"`
	Bytes   int64  `json:"bytes"`
	Missing string `json:"missing_parent"` // after a restore: id of what it continues, if that is not there
}

// PurgeKV removes a selection of the server's disk cache.
func (c *Client) PurgeKV(ctx context.Context, p KVPurge) (KVPurged, error) {
	var got KVPurged
	err := c.post(ctx, "/v1/kv/purge", p, &got)
	return got, err
}

// RestoreKV puts a file of the quarantine back. holder is as in KVPurge.
func (c *Client) RestoreKV(ctx context.Context, holder, name string) (KVFile, error) {
	var got KVFile
	err := c.post(ctx, "/v1/kv/restore", map[string]string{"holder": holder, "name": name}, &got)
	return got, err
}

// post sends a JSON document and reads one.
func (c *Client) post(ctx context.Context, path string, question, answer any) error {
	body, err := json.Marshal(question)
	if err != nil {
		return fmt.Errorf("client: %w", err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.base+path, bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("client: %w", err)
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := c.http.Do(req)
	if err != nil {
		return fmt.Errorf("client: %s: %w", path, err)
	}
	defer resp.Body.Close()
	if resp.StatusCode/100 != 2 {
		return fmt.Errorf("client: %s: %w", path, errorAnswer(resp))
	}
	data, err := readBounded(resp.Body)
	if err == nil {
		err = json.Unmarshal(data, answer)
	}
	if err != nil {
		return fmt.Errorf("client: %s: %w", path, err)
	}
	return nil
}
