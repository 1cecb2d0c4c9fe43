package server

type testStore struct{}
