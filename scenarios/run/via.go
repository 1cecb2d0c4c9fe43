package run

import (
	"cmp"
	"net/url"

	"ds4/faults/proxy"
	"ds4/reports"
	"ds4/runtime/client"
)

// through returns a client that reaches the server of c over a bad way. All
// attempts of a chat use one proxy, which knows how often it has struck. The
// server may have another address by the next attempt.
func (a *answer) through(c *client.Client) (*client.Client, error) {
	if a.via == nil {
		rule, err := a.spec.Via.Rule()
		if err != nil {
			return nil, err
		}
		if a.via, err = proxy.Start(c.Base(), rule); err != nil {
			return nil, err
		}
	}
	if err := a.via.Retarget(c.Base()); err != nil {
		return nil, err
	}
	u, err := url.Parse(c.Base())
	if err != nil {
		return nil, err
	}
	return client.New(a.via.URL() + u.Path)
}

func (a *answer) closeVia() {
	if a.via != nil {
		a.via.Close()
		a.via = nil
	}
}

// checkVia notes whether the way did any harm. A fault that did not happen
// proves nothing, unless it was an error of the server that kept it from it.
func (p *rep) checkVia(a *answer) {
	if a.via == nil {
		return
	}
	rule, _ := a.spec.Via.Rule()
	if a.via.Hurt() > 0 {
		p.event(reports.EventFault, rule.String())
		return
	}
	if a.err != nil {
		return
	}
	p.mu.Lock()
	p.unhurt = append(p.unhurt, cmp.Or(a.name, "without a name")+" ("+rule.String()+")")
	p.mu.Unlock()
}
