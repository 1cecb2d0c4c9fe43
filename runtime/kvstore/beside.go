package kvstore

// The folder also holds the file that remembers tool calls (package replay). It is
// written by its own package; the store says where it is, whether it may be written,
// and counts it.

// CallsFile is where tool calls are remembered.
func (s *Store) CallsFile() string { return s.dir.calls() }

// Owned returns nil as long as this process is the one that may write to the folder,
// and has counted what is in it.
func (s *Store) Owned() error {
	s.mu.Lock()
	err := s.writable()
	s.mu.Unlock()
	if err != nil {
		return err
	}
	return s.owned()
}

// OnRegained has a function called each time that this process becomes the writer
// after the start. It must not block.
func (s *Store) OnRegained(tell func()) {
	s.mu.Lock()
	s.tellRegained = tell
	s.mu.Unlock()
}

// CountCalls tells by how many bytes the file of tool calls has grown since the store
// was opened, or shrunk. They count for the budget.
func (s *Store) CountCalls(delta int64) {
	s.mu.Lock()
	s.calls = max(addBytes(s.calls, delta), 0)
	s.mu.Unlock()
}
