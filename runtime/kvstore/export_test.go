package kvstore

// Settle waits until everything that the keeper was given is carried out, so that
// a test goes on from a state that does not depend on luck.
func (s *Store) Settle() bool {
	const tries = 12 // the store itself waits for a slow disk only so long; a busy machine may take longer
	for range tries {
		if s.keep(true, func() {}) {
			return true
		}
		select {
		case <-s.keeperDone:
			return false
		default:
		}
	}
	return false
}
