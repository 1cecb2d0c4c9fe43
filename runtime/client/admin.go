package client

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
)

// Health is what /healthz reports.
type Health struct {
	HTTPStatus int
	Status     string   `json:"status"` // ok, degraded-cache, degraded-device, stopping
	Reasons    []string `json:"reasons"`
}

// Health asks /healthz. A 503 is an answer, not an error.
func (c *Client) Health(ctx context.Context) (Health, error) {
	data, status, err := c.get(ctx, "/healthz")
	if err != nil {
		return Health{}, err
	}
	h := Health{HTTPStatus: status}
	if err := json.Unmarshal(data, &h); err != nil {
		return Health{}, fmt.Errorf("client: /healthz: %w", err)
	}
	return h, nil
}

// Page gets any page, whatever its status.
func (c *Client) Page(ctx context.Context, path string) ([]byte, error) {
	data, _, err := c.get(ctx, path)
	return data, err
}

// Models lists the ids that /v1/models reports; servers of every make have it.
func (c *Client) Models(ctx context.Context) ([]string, error) {
	data, status, err := c.get(ctx, "/v1/models")
	if err != nil {
		return nil, err
	}
	var list struct {
		Data []struct {
			ID string `json:"id"`
		} `json:"data"`
	}
	if err := json.Unmarshal(data, &list); err != nil || status != http.StatusOK {
		return nil, fmt.Errorf("client: /v1/models: status %d: %w", status, ErrIncomplete)
	}
	var ids []string
	for _, m := range list.Data {
		ids = append(ids, m.ID)
	}
	return ids, nil
}

// ClearKV empties the server's disk cache.
func (c *Client) ClearKV(ctx context.Context) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.base+"/v1/kv/clear", http.NoBody)
	if err != nil {
		return fmt.Errorf("client: %w", err)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return fmt.Errorf("client: clear: %w", err)
	}
	defer resp.Body.Close()
	if resp.StatusCode/100 != 2 {
		return fmt.Errorf("client: clear: %w", errorAnswer(resp))
	}
	return nil
}

// Sample is one line of a metrics page.
type Sample struct {
	Name   string
	Labels map[string]string
	Value  float64
}

// Metrics is a metrics page.
type Metrics []Sample

// Sum adds the samples of a name whose labels include all of those given. The
// second result is false if there is none.
func (m Metrics) Sum(name string, labels map[string]string) (float64, bool) {
	sum, found := 0.0, false
next:
	for _, s := range m {
		if s.Name != name {
			continue
		}
		for k, v := range labels {
			if s.Labels[k] != v {
				continue next
			}
		}
		sum, found = sum+s.Value, true
	}
	return sum, found
}

// Metrics asks /metrics.
func (c *Client) Metrics(ctx context.Context) (Metrics, error) {
	data, status, err := c.get(ctx, "/metrics")
	if err != nil {
		return nil, err
	}
	if status != http.StatusOK {
		return nil, fmt.Errorf("client: /metrics: status %d: %w", status, ErrIncomplete)
	}
	return ParseMetrics(data)
}

// maxSamples bounds one metrics page.
const maxSamples = 100_000

// ParseMetrics reads the Prometheus text format: samples only, no exemplars.
func ParseMetrics(data []byte) (Metrics, error) {
	var out Metrics
	sc := bufio.NewScanner(bytes.NewReader(data))
	sc.Buffer(nil, 1<<20)
	for n := 1; sc.Scan(); n++ {
		line := strings.TrimSpace(sc.Text())
		if line == "" || line[0] == '#' {
			continue
		}
		s, err := parseSample(line)
		if err != nil {
			return nil, fmt.Errorf("client: metrics line %d: %w", n, err)
		}
		if out = append(out, s); len(out) > maxSamples {
			return nil, fmt.Errorf("client: metrics: %w of %d samples", ErrTooLarge, maxSamples)
		}
	}
	return out, sc.Err()
}

func parseSample(line string) (Sample, error) {
	end := strings.IndexAny(line, "{ ")
	if end <= 0 {
		return Sample{}, fmt.Errorf("no value: %q", line)
	}
	s := Sample{Name: line[:end]}
	rest := line[end:]
	if rest[0] == '{' {
		var err error
		if s.Labels, rest, err = parseLabels(rest[1:]); err != nil {
			return Sample{}, err
		}
	}
	fields := strings.Fields(rest)
	if len(fields) == 0 || len(fields) > 2 { // a time stamp may follow
		return Sample{}, fmt.Errorf("want one value: %q", line)
	}
	v, err := strconv.ParseFloat(fields[0], 64)
	if err != nil {
		return Sample{}, fmt.Errorf("value: %w", err)
	}
	s.Value = v
	return s, nil
}

// parseLabels reads name="value" pairs up to the closing brace and returns what
// follows it.
func parseLabels(s string) (map[string]string, string, error) {
	labels := map[string]string{}
	for {
		s = strings.TrimLeft(s, ", ")
		if rest, ok := strings.CutPrefix(s, "}"); ok {
			return labels, rest, nil
		}
		name, rest, ok := strings.Cut(s, "=\"")
		if !ok {
			return nil, "", fmt.Errorf("label without a value: %q", s)
		}
		var b strings.Builder
		for {
			i := strings.IndexAny(rest, `"\`)
			if i < 0 || rest[i] == '\\' && i+1 == len(rest) {
				return nil, "", fmt.Errorf("label %s is not closed", name)
			}
			b.WriteString(rest[:i])
			c := rest[i]
			rest = rest[i+1:]
			if c == '"' {
				break
			}
			switch rest[0] {
			case 'n':
				b.WriteByte('\n')
			default:
				b.WriteByte(rest[0])
			}
			rest = rest[1:]
		}
		labels[name] = b.String()
		s = rest
	}
}

func (c *Client) get(ctx context.Context, path string) ([]byte, int, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.base+path, http.NoBody)
	if err != nil {
		return nil, 0, fmt.Errorf("client: %w", err)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, 0, fmt.Errorf("client: %s: %w", path, err)
	}
	defer resp.Body.Close()
	data, err := readBounded(resp.Body)
	if err != nil {
		return nil, resp.StatusCode, fmt.Errorf("client: %s: %w", path, err)
	}
	return data, resp.StatusCode, nil
}
