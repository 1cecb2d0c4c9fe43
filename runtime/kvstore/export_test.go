package kvstore

// Settle waits until everything that the keeper was given is carried out, so that
// a test goes on from a state that does not depend on luck.
func (s *Store) Settle() bool { return s.keep(true, func() {}) }
