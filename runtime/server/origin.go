package server

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
)

// browsers refuses requests that a web page of another origin makes through a user's
// browser. Without it any page could spend the machine's time and empty the cache,
// even though it could not read the answers.
var browsers = http.NewCrossOriginProtection()

func (s *Server) sameOrigin(r *http.Request) error {
	switch {
	case s.cfg.CORS:
		return nil
	case browsers.Check(r) != nil:
		return &apiError{
			status: http.StatusForbidden, Type: typeInvalid,
			Message: "cross-origin request refused; start the server with --cors to allow web pages of other origins",
		}
	case len(s.keys) == 0 && onLoopback(r) && !ownName(r.Host):
		return &apiError{
			status: http.StatusForbidden, Type: typeInvalid,
			Message: fmt.Sprintf("the name %.64q is refused, it may be another's; use localhost or an address, or start the server with an API key or --cors", r.Host),
		}
	}
	return nil
}

// onLoopback tells whether a request came through the loopback interface.
func onLoopback(r *http.Request) bool {
	addr, ok := r.Context().Value(http.LocalAddrContextKey).(*net.TCPAddr)
	return ok && addr.IP.IsLoopback()
}

// ownSuffixes are of names that nobody can register.
var ownSuffixes = []string{".localhost", ".local", ".internal", ".lan", ".home.arpa", ".test"}

var hostname = sync.OnceValue(func() string {
	name, err := os.Hostname()
	if err != nil {
		return ""
	}
	return strings.ToLower(name)
})

// ownName tells whether a Host header names this machine. Whoever owns a domain can
// let its name lead to the loopback address after a page was loaded from elsewhere;
// a browser takes both for one origin then, and the page could read what the server
// says. Addresses, names without a dot and those of ownSuffixes cannot be had for that.
func ownName(host string) bool {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	if !strings.Contains(host, ".") || host == hostname() || net.ParseIP(strings.Trim(host, "[]")) != nil {
		return true
	}
	for _, suffix := range ownSuffixes {
		if strings.HasSuffix(host, suffix) {
			return true
		}
	}
	return false
}
