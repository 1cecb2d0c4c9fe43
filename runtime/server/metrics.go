package server

import (
	"errors"
	"fmt"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"ds4/runtime/scheduler"
)

const (
	metricPrefix  = "ds4_"
	scrapeTimeout = 10 * time.Second // for a client to take the whole page
)

// metrics exports the counters of the scheduler and of the disk cache as they are at
// the moment of a scrape, and counts HTTP requests itself. The registry is our own:
// several servers in one process do not meet.
type metrics struct {
	registry *prometheus.Registry
	requests *prometheus.CounterVec
	seconds  *prometheus.CounterVec
	page     http.Handler
}

// liveHeap exports what the last collection found in use: without it a growth of the
// heap cannot be told from garbage.
var liveHeap = collectors.GoRuntimeMetricsRule{Matcher: regexp.MustCompile(`^/gc/heap/live:bytes$`)}

func newMetrics(s *Server) *metrics {
	m := &metrics{
		registry: prometheus.NewRegistry(),
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: metricPrefix + "http_requests_total", Help: "HTTP requests answered, by route and status code.",
		}, []string{"route", "code"}),
		seconds: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: metricPrefix + "http_request_seconds_total", Help: "Time until the last byte of answers, by route.",
		}, []string{"route"}),
	}
	info := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: metricPrefix + "build_info", Help: "1, with the version, the loaded model and the backend with its kernels as labels.",
		ConstLabels: buildLabels(&s.cfg),
	})
	info.Set(1)
	connections := func(name, help string, value func(open, idle int) int) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: metricPrefix + name, Help: help},
			func() float64 { open, idle, _ := s.connections.count(); return float64(value(open, idle)) })
	}
	m.registry.MustRegister(
		connections("http_connections", "Connections that are open.", func(open, _ int) int { return open }),
		connections("http_idle_connections", "Connections that wait for a request.", func(_, idle int) int { return idle }),
		prometheus.NewCounterFunc(prometheus.CounterOpts{
			Name: metricPrefix + "http_refused_connections_total", Help: "Connections refused because all others were at work.",
		}, func() float64 { _, _, refused := s.connections.count(); return float64(refused) }))
	m.registry.MustRegister(m.requests, m.seconds, info, newStateCollector(s),
		collectors.NewGoCollector(collectors.WithGoCollectorRuntimeMetrics(liveHeap)), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	m.page = promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{ErrorLog: promLog{s}})
	return m
}

// buildLabels describe the program.
func buildLabels(cfg *Config) prometheus.Labels {
	labels := prometheus.Labels{"version": cfg.Version, "model": cfg.Model.ID}
	if cfg.Backend != "" {
		labels["backend"] = cfg.Backend
	}
	return labels
}

// handle serves GET /metrics.
func (m *metrics) handle(w http.ResponseWriter, r *http.Request) error {
	err := http.NewResponseController(w).SetWriteDeadline(time.Now().Add(scrapeTimeout))
	if err != nil && !errors.Is(err, http.ErrNotSupported) {
		return err
	}
	m.page.ServeHTTP(w, r)
	return nil
}

// observe counts one request. status is 0 if nothing could be sent.
func (m *metrics) observe(route string, status int, d time.Duration) {
	m.requests.WithLabelValues(route, fmt.Sprint(status)).Inc()
	m.seconds.WithLabelValues(route).Add(max(d, 0).Seconds())
}

// promLog reports a scrape that went wrong.
type promLog struct{ s *Server }

func (l promLog) Println(v ...any) { l.s.cfg.Log("metrics: %s", fmt.Sprint(v...)) }

// stat is one number of a snapshot of type T.
type stat[T any] struct {
	desc  *prometheus.Desc
	kind  prometheus.ValueType
	value func(T) float64
}

// statMap is a family of numbers with one label.
type statMap[T any] struct {
	desc   *prometheus.Desc
	kind   prometheus.ValueType
	values func(T) map[string]float64
}

func counter[T any](name, help string, value func(T) float64) stat[T] {
	return stat[T]{prometheus.NewDesc(metricPrefix+name, help, nil, nil), prometheus.CounterValue, value}
}

func gauge[T any](name, help string, value func(T) float64) stat[T] {
	return stat[T]{prometheus.NewDesc(metricPrefix+name, help, nil, nil), prometheus.GaugeValue, value}
}

func counters[T any](name, label, help string, values func(T) map[string]float64) statMap[T] {
	return statMap[T]{prometheus.NewDesc(metricPrefix+name, help, []string{label}, nil), prometheus.CounterValue, values}
}

func gauges[T any](name, label, help string, values func(T) map[string]float64) statMap[T] {
	return statMap[T]{prometheus.NewDesc(metricPrefix+name, help, []string{label}, nil), prometheus.GaugeValue, values}
}

func (c stat[T]) send(ch chan<- prometheus.Metric, snapshot T) {
	ch <- prometheus.MustNewConstMetric(c.desc, c.kind, c.value(snapshot))
}

func (c statMap[T]) send(ch chan<- prometheus.Metric, snapshot T) {
	values := c.values(snapshot)
	for _, label := range slices.Sorted(maps.Keys(values)) {
		ch <- prometheus.MustNewConstMetric(c.desc, c.kind, values[label], label)
	}
}

// numbers converts a map of counts; keys that are always wanted start at zero.
func numbers[V uint64 | int64 | int](counts map[string]V, always ...string) map[string]float64 {
	out := make(map[string]float64, len(counts)+len(always))
	for _, key := range always {
		out[key] = 0
	}
	for key, n := range counts {
		out[key] = float64(n)
	}
	return out
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// stateCollector asks the scheduler and the store when it is scraped.
type stateCollector struct {
	s      *Server
	health *prometheus.Desc
}

func newStateCollector(s *Server) *stateCollector {
	return &stateCollector{s: s, health: prometheus.NewDesc(metricPrefix+"health",
		"1 for the state that /healthz reports, 0 for the others.", []string{"state"}, nil)}
}

// Describe implements prometheus.Collector.
func (c *stateCollector) Describe(ch chan<- *prometheus.Desc) {
	ch <- c.health
	for _, x := range schedulerStats {
		ch <- x.desc
	}
	for _, x := range schedulerMaps {
		ch <- x.desc
	}
	for _, x := range storeStats {
		ch <- x.desc
	}
	for _, x := range storeMaps {
		ch <- x.desc
	}
}

// Collect implements prometheus.Collector.
func (c *stateCollector) Collect(ch chan<- prometheus.Metric) {
	state := c.s.health().State
	for _, name := range []string{
		scheduler.HealthOK, scheduler.HealthDegradedCache, scheduler.HealthDegradedDevice, scheduler.HealthStopping,
	} {
		ch <- prometheus.MustNewConstMetric(c.health, prometheus.GaugeValue, truth(name == state), name)
	}
	snapshot := c.s.cfg.Scheduler.Stats()
	for _, x := range schedulerStats {
		x.send(ch, snapshot)
	}
	for _, x := range schedulerMaps {
		x.send(ch, snapshot)
	}
	if c.s.cfg.Store == nil {
		return
	}
	kv := c.s.cfg.Store.Stats()
	for _, x := range storeStats {
		x.send(ch, kv)
	}
	for _, x := range storeMaps {
		x.send(ch, kv)
	}
}
