package scheduler

import (
	"context"
	"slices"

	"ds4/runtime/engine"
	"ds4/runtime/kvstore"
)

// disk is the store as the worker uses it: there may be none. All methods but
// pin, restore and trouble belong to the worker.
type disk struct {
	store    *kvstore.Store // nil: no disk cache
	off      bool           // the recovery is switched off: no markers, no probation
	inflight map[*job]*kvstore.Inflight
}

func (d *disk) on() bool { return d.store != nil }

// writable reports whether saving makes sense at all.
func (d *disk) writable() bool {
	if !d.on() {
		return false
	}
	readOnly, _ := d.store.ReadOnly()
	return !readOnly
}

func (d *disk) lookup(text []byte) kvstore.Chain {
	if !d.on() || len(text) == 0 {
		return kvstore.Chain{}
	}
	return d.store.Lookup(text)
}

func (d *disk) has(id string) bool { return d.on() && d.store.Has(id) }

func (d *disk) pin(c kvstore.Chain) func() { return d.store.Pin(c) }

// restore fills sess. After an error the session is empty.
func (d *disk) restore(ctx context.Context, sess *engine.Session, c kvstore.Chain) (kvstore.Restored, error) {
	return d.store.Restore(ctx, c, func(to int) (kvstore.Target, error) {
		r, err := sess.BeginRestore(to)
		if err != nil {
			return nil, err
		}
		return r, nil
	})
}

func (d *disk) save(ctx context.Context, seg *kvstore.Segment) (string, error) {
	return d.store.Save(ctx, seg)
}

// begin writes the marker of a restore.
func (d *disk) begin(j *job, c kvstore.Chain) error {
	if d.off {
		return nil
	}
	in, err := d.store.BeginInflight(c)
	if err != nil {
		return err
	}
	if d.inflight == nil {
		d.inflight = map[*job]*kvstore.Inflight{}
	}
	d.dismissed(j) // one request has one marker
	d.inflight[j] = in
	return nil
}

// proven removes the marker because work on the restored state succeeded;
// dismissed because nobody will know: cancelled, shut down, or judged by the
// ladder.
func (d *disk) proven(j *job) {
	if in := d.inflight[j]; in != nil {
		delete(d.inflight, j)
		in.Done()
	}
}

func (d *disk) dismissed(j *job) {
	if in := d.inflight[j]; in != nil {
		delete(d.inflight, j)
		in.Cancel()
	}
}

func (d *disk) withhold(ids []string, why string) {
	if d.on() && len(ids) > 0 {
		d.store.Withhold(ids, why)
	}
}

func (d *disk) release(ids []string) {
	if d.on() && len(ids) > 0 {
		d.store.Release(ids)
	}
}

func (d *disk) convict(ids []string, why string) {
	if d.on() && len(ids) > 0 {
		d.store.Convict(ids, why)
	}
}

func (d *disk) clear() error {
	if !d.on() {
		return nil
	}
	_, err := d.store.Clear()
	return err
}

// trouble says in a line why the cache does less than it should, "" if it works
// or was not asked for.
func (d *disk) trouble() string {
	if !d.on() {
		return ""
	}
	if ok, reason := d.store.Health(); !ok {
		return "kv cache: " + reason
	}
	return ""
}

// ends lists the segment ends of a restored chain that new segments can follow.
// The store names the whole chain only, so the end of the last full segment is
// looked up; chains of another segment size have their last end at least.
func (d *disk) ends(c kvstore.Chain, h *history, segmentTokens int) []savedEnd {
	last := savedEnd{at: c.Tokens, id: c.Last()}
	full := c.Tokens / segmentTokens * segmentTokens
	if full == 0 {
		return []savedEnd{last}
	}
	front := d.lookup(h.text[:h.textLen(full)])
	if full == c.Tokens || front.Tokens != full || !slices.Contains(c.IDs, front.Last()) {
		last.parent = true
		return []savedEnd{last}
	}
	// One tail behind full segments ends like a prompt: what was saved after it in
	// an earlier life is found again, and not saved a second time without it.
	last.prompt = len(c.IDs) == len(front.IDs)+1
	return []savedEnd{{at: full, id: front.Last(), parent: true}, last}
}
