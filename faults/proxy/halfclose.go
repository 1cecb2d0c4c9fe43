package proxy

import (
	"bufio"
	"io"
	"net"
	"net/http"
)

// halfClosing passes the first request on and then closes the sending half of the
// connection to the server: legal, and to many servers a client that has gone.
func (p *Proxy) halfClosing(up, down *net.TCPConn) {
	req, err := http.ReadRequest(bufio.NewReader(down))
	if err != nil {
		_ = up.Close()
		return
	}
	if req.Write(up) == nil && up.CloseWrite() == nil {
		p.hurt.Add(1)
	}
	_, _ = io.Copy(io.Discard, down) // until the client leaves, or the answer is complete
	_ = up.Close()
}
