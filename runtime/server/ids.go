package server

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
)

// idBytes is the randomness of an id: 24 digits, as other servers have them.
const idBytes = 12

// newID returns a fresh id with a prefix that says what it is of.
func (s *Server) newID(prefix string) string {
	id := make([]byte, idBytes)
	s.random(id)
	return prefix + hex.EncodeToString(id)
}

// completionID numbers the completions of a process; the part that differs between
// processes keeps the numbers apart.
func (s *Server) completionID(prefix string) string {
	return fmt.Sprintf("%s-%s-%d", prefix, s.startID, s.completions.Add(1))
}

// readRandom fills p; it never fails.
func readRandom(p []byte) { _, _ = rand.Read(p) }

// modelName is the name that an answer gives its model: that of the request.
func (s *Server) modelName(asked string) string {
	if asked == "" {
		return s.cfg.Model.ID
	}
	return asked
}
