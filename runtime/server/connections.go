package server

import (
	"container/list"
	"net"
	"net/http"
	"sync"
	"time"
)

// connections bounds the connections that are open. The one that has been idle for
// longest makes room for a new one, so that thousands that nobody uses any more
// lock nobody out. Only where all of them are at work is a new one refused.
type connections struct {
	most int

	mu      sync.Mutex
	all     map[net.Conn]*connection
	idle    list.List // of net.Conn that wait for a request, longest first
	refused int
}

type connection struct {
	place *list.Element // in idle; nil while a request is at work
}

func newConnections(most int) *connections {
	return &connections{most: most, all: map[net.Conn]*connection{}}
}

// tooMany is the answer to a connection for which there is no room. It fits the
// buffer of a fresh socket, so writing it does not hold up the listener.
const tooMany = "HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\nRetry-After: 1\r\nConnection: close\r\n\r\n" +
	`{"error":{"message":"too many connections","type":"server_error"}}` + "\n"

// track is the http.Server's ConnState hook.
func (c *connections) track(conn net.Conn, state http.ConnState) {
	switch state {
	case http.StateNew:
		c.opened(conn)
	case http.StateActive, http.StateIdle:
		c.mu.Lock()
		c.rest(conn, state == http.StateIdle)
		c.mu.Unlock()
	case http.StateClosed, http.StateHijacked:
		c.mu.Lock()
		c.forget(conn)
		c.mu.Unlock()
	}
}

func (c *connections) opened(conn net.Conn) {
	c.mu.Lock()
	var victim net.Conn
	full := len(c.all) >= c.most
	if front := c.idle.Front(); full && front != nil {
		victim, full = front.Value.(net.Conn), false
		c.forget(victim)
	}
	if full {
		c.refused++
	} else {
		c.all[conn] = &connection{}
		c.rest(conn, true) // it has not asked for anything yet
	}
	c.mu.Unlock()
	switch {
	case victim != nil:
		_ = victim.Close()
	case full:
		_ = conn.SetWriteDeadline(time.Now().Add(time.Second))
		_, _ = conn.Write([]byte(tooMany))
		_ = conn.Close()
	}
}

// rest notes that a connection waits for a request, or does not any more. The
// caller holds mu.
func (c *connections) rest(conn net.Conn, idle bool) {
	x := c.all[conn]
	switch {
	case x == nil: // it had to go
	case idle && x.place == nil:
		x.place = c.idle.PushBack(conn)
	case !idle && x.place != nil:
		c.idle.Remove(x.place)
		x.place = nil
	}
}

// forget drops a connection from the books. The caller holds mu.
func (c *connections) forget(conn net.Conn) {
	c.rest(conn, false)
	delete(c.all, conn)
}

// count returns how many connections are open and idle, and how many were refused.
func (c *connections) count() (open, idle, refused int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.all), c.idle.Len(), c.refused
}
