package scheduler

import (
	"context"

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

// beyond finds what continues the segment after, which ends at from, with text.
func (d *disk) beyond(after string, from int, text []byte) kvstore.Chain {
	if !d.on() || len(text) == 0 {
		return kvstore.Chain{}
	}
	return d.store.Beyond(after, from, text)
}

// restore adds a chain to sess, which holds what comes before it. After an error
// the session is as it was; empty, if the chain begins at 0. accept, if not nil,
// may refuse the stored tokens.
func (d *disk) restore(ctx context.Context, sess *engine.Session, c kvstore.Chain, accept func([]int32) error) (kvstore.Restored, error) {
	return d.store.Restore(ctx, c, func(to int) (kvstore.Target, error) {
		r, err := sess.BeginRestore(c.From, to)
		if err != nil {
			return nil, err
		}
		return &restoreTarget{r, accept}, nil
	})
}

// restoreTarget is a session whose new tokens somebody must agree to.
type restoreTarget struct {
	*engine.Restore
	accept func([]int32) error
}

// Commit makes the restored state the session's.
func (t *restoreTarget) Commit(tokens []int32) error {
	if t.accept != nil {
		if err := t.accept(tokens); err != nil {
			t.Abort()
			return err
		}
	}
	return t.Restore.Commit(tokens)
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

// working notes that the chain was read and that work on it begins: a death from now
// on is not the disk's doing.
func (d *disk) working(j *job) {
	if in := d.inflight[j]; in != nil {
		in.Phase(kvstore.PhaseFirstChunk)
	}
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

// unproven reports whether a request stands on restored state that no pass has
// used yet.
func (d *disk) unproven(j *job) bool { return d.inflight[j] != nil }

// ends lists the segment ends of a restored chain that new segments can follow:
// those of full segments, the first tail behind them, and the last. A chain of another segment size has its
// last end at least.
func ends(c kvstore.Chain, segmentTokens int) []savedEnd {
	var list []savedEnd
	follow := false
	for i, at := range c.Ends {
		full := at%segmentTokens == 0
		follow = follow || full
		// The first tail behind full segments ends like a prompt: what was saved after
		// it in an earlier life is found again, and not saved a second time without it.
		prompt := !full && (i == 0 || c.Ends[i-1]%segmentTokens == 0)
		if full || prompt || i == len(c.Ends)-1 {
			list = append(list, savedEnd{at: at, id: c.IDs[i], parent: full, prompt: prompt})
		}
	}
	if !follow && c.Tokens >= segmentTokens {
		list[len(list)-1].parent = true
	}
	return list
}
