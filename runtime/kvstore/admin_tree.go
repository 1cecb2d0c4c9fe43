package kvstore

import (
	"slices"

	"ds4/runtime/kvstore/segment"
)

// link finds the parents of the segments and which of them no lookup reaches.
func (s *Survey) link() {
	n := len(s.Segments)
	parent := make([]int32, n)
	for i := range s.Segments {
		parent[i] = -1
		f := &s.Segments[i]
		if p, ok := s.byID[f.Parent]; ok && !f.Parent.IsZero() {
			parent[i] = p
		}
	}
	cutLoops(parent)
	s.kids = make([][]int32, n)
	for i, p := range parent {
		if p < 0 {
			s.roots = append(s.roots, int32(i))
		} else {
			s.kids[p] = append(s.kids[p], int32(i))
		}
	}
	byUse := func(a, b int32) int { return s.Segments[a].LastUsed.Compare(s.Segments[b].LastUsed) }
	slices.SortStableFunc(s.roots, byUse)
	for _, list := range s.kids {
		slices.SortStableFunc(list, byUse)
	}
	s.findOrphans()
}

// cutLoops makes roots of the parents' chains that bite their own tail. Names of
// honest files cannot do that, but headers of dishonest ones can.
func cutLoops(parent []int32) {
	seen := make([]int32, len(parent)) // by which walk
	for i := range parent {
		walk := int32(i) + 1
		for at := int32(i); at >= 0 && seen[at] == 0; at = parent[at] {
			seen[at] = walk
			if p := parent[at]; p >= 0 && seen[p] == walk {
				parent[at] = -1
			}
		}
	}
}

// findOrphans gives intact segments that no lookup reaches their verdict.
func (s *Survey) findOrphans() {
	reached := make([]bool, len(s.Segments))
	var open []int32
	for _, i := range s.roots {
		if f := &s.Segments[i]; f.Verdict == VerdictOK && f.From == 0 {
			open = append(open, i)
		}
	}
	for len(open) > 0 {
		at := open[len(open)-1]
		open = open[:len(open)-1]
		reached[at] = true
		for _, k := range s.kids[at] {
			if f := &s.Segments[k]; f.Verdict == VerdictOK && f.From == s.Segments[at].To {
				open = append(open, k)
			}
		}
	}
	why := map[int]string{}
	for i := range s.Segments {
		if f := &s.Segments[i]; f.Verdict == VerdictOK && !reached[i] {
			why[i] = s.whyOrphan(f)
		}
	}
	for i, text := range why { // when all reasons are known
		s.Segments[i].Verdict, s.Segments[i].Reason = VerdictOrphan, text
	}
}

// whyOrphan says what is wrong with what comes before a segment.
func (s *Survey) whyOrphan(f *SegmentInfo) string {
	p, ok := s.byID[f.Parent]
	switch {
	case !ok:
		return "what comes before it is gone"
	case s.Segments[p].Verdict != VerdictOK:
		return "what comes before it is " + string(s.Segments[p].Verdict)
	case s.Segments[p].To != f.From:
		return "what comes before it ends elsewhere"
	}
	return "what comes before it is not reached"
}

// Roots are the indices in Segments of what begins a conversation, or continues
// something that is gone; least recently used first.
func (s *Survey) Roots() []int32 { return s.roots }

// Children are the indices of what continues segment i, least recently used
// first.
func (s *Survey) Children(i int32) []int32 { return s.kids[i] }

// Find returns the index of a segment.
func (s *Survey) Find(id segment.ID) (int32, bool) {
	i, ok := s.byID[id]
	return i, ok
}

// Summary adds a Survey up.
type Summary struct {
	Segments      int               // listed ones
	Conversations int               // ends of intact chains that a lookup reaches
	Files         map[Verdict]int   // segments by verdict
	Bytes         map[Verdict]int64 // of them
	Quarantined   int               // files
	JailBytes     int64             // of them, with their notes
	Total         int64             // everything under the folder
}

// Summary adds up what was found.
func (s *Survey) Summary() Summary {
	sum := Summary{Segments: len(s.Segments), Files: map[Verdict]int{}, Bytes: map[Verdict]int64{}, Quarantined: len(s.Quarantined),
		Total: s.TempBytes + s.OtherBytes + s.Foreign + s.UnlistedSum}
	for i := range s.Segments {
		f := &s.Segments[i]
		sum.Files[f.Verdict]++
		sum.Bytes[f.Verdict] += f.Bytes
		sum.Total += f.Bytes
		if f.Verdict == VerdictOK && !slices.ContainsFunc(s.kids[i], func(k int32) bool { return s.Segments[k].Verdict == VerdictOK }) {
			sum.Conversations++
		}
	}
	for _, q := range s.Quarantined {
		sum.JailBytes += q.Bytes
	}
	sum.Total += sum.JailBytes
	return sum
}
