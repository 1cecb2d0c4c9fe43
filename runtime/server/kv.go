package server

import "net/http"

// Store is what the server needs of *kvstore.Store.
type Store interface {
}

func (s *Server) handleKV(w http.ResponseWriter, _ *http.Request) error      { return nil }
func (s *Server) handleKVClear(w http.ResponseWriter, _ *http.Request) error { return nil }
