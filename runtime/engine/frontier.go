package engine

import "ds4/runtime/model"

// The frontier of a compressor is what waits for the next window: in a slot per
// token, [kv][gate] of [lanes][width] float32 each. With ratio 4 there are slots
// for the last closed window, then for the open one; of the closed window's
// tokens only lane A is read again, lane B was their own window's.
//
// Outside of a session only what a kernel can still read is kept: for each part,
// lane A of kv and gate of the closed window's slots, if a window has closed,
// then the whole slots of the open window's tokens.

// frontierPart is the frontier of one compressor within a layer's: attention's
// or the indexer's.
type frontierPart struct {
	at    int // offset in the layer's frontier
	slot  int // bytes of a token
	lane  int // bytes of one lane of kv or gate
	ratio int
}

// addFrontier places the frontier of another compressor.
func (y *layerLayout) addFrontier(width int) {
	lane := width * floatBytes
	p := frontierPart{at: y.frontierBytes, slot: 2 * model.CompressorLanes(y.ratio) * lane, lane: lane, ratio: y.ratio}
	y.parts = append(y.parts, p)
	y.frontierBytes += (p.closedSlots() + p.ratio) * p.slot
}

// closedSlots is how many slots come before those of the open window.
func (p *frontierPart) closedSlots() int {
	if p.ratio == 4 {
		return p.ratio
	}
	return 0
}

// used calls f with every range of a layer's frontier that is kept at length n.
func (y *layerLayout) used(n int, f func(from, to int)) {
	for _, p := range y.parts {
		if n >= p.ratio {
			for i := range p.closedSlots() {
				kv := p.at + i*p.slot
				f(kv, kv+p.lane)
				f(kv+p.slot/2, kv+p.slot/2+p.lane)
			}
		}
		open := p.at + p.closedSlots()*p.slot
		f(open, open+n%p.ratio*p.slot)
	}
}

// frontierSizes is how many bytes are kept once a window has closed, and per
// token of the open one.
func (y *layerLayout) frontierSizes() (closed, open int) {
	for _, p := range y.parts {
		closed += p.closedSlots() * 2 * p.lane
		open += p.slot
	}
	return closed, open
}

// keptFrontier is the size of what is kept at length n.
func (y *layerLayout) keptFrontier(n int) int {
	size := 0
	y.used(n, func(from, to int) { size += to - from })
	return size
}

// exportFrontier copies what is kept of a layer's committed frontier.
func (s *Session) exportFrontier(layer int) []byte {
	l := &s.engine.layout.layers[layer]
	if l.ratio == 0 {
		return nil
	}
	all, out := s.frontierBank(layer, 0), make([]byte, 0, l.keptFrontier(s.Len()))
	l.used(s.Len(), func(from, to int) { out = append(out, all[from:to]...) })
	return out
}

// importFrontier puts the frontier that was kept at length n in place: into the
// committed bank, or with other 1 into the one that the next step would write. It
// reports whether all of it is finite.
func (s *Session) importFrontier(layer, other, n int, kept []byte) bool {
	l := &s.engine.layout.layers[layer]
	if l.ratio == 0 {
		return true
	}
	all, ok := s.frontierBank(layer, other), true
	l.used(n, func(from, to int) {
		kept = kept[copy(all[from:to], kept):]
		ok = ok && finite(all[from:to])
	})
	return ok
}

// frontierBank views the committed frontier of a layer, or, with other 1, the
// bank that the next step would write.
func (s *Session) frontierBank(layer, other int) []byte {
	l := &s.engine.layout.layers[layer]
	if l.ratio == 0 {
		return nil
	}
	at := l.frontier[s.bank[bankOf(l.ratio)]^other]
	return s.state.Bytes()[at : at+uint64(l.frontierBytes)]
}
