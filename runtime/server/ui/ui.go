// Package ui is the page that the server shows to people at GET /: a chat, and a
// view of what is in memory, on disk and in quarantine.
//
// It promises one answer that needs nothing else: style and script are in it, and
// its policy lets the browser run that script only, load nothing and talk to the
// server that sent it only. Nothing that a model says becomes markup. The page uses
// the API that everybody uses and knows nothing that a client could not.
package ui

import (
	"bytes"
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"encoding/hex"
	"net/http"
	"time"
)

//go:embed page.html
var markup []byte

//go:embed page.css
var style []byte

//go:embed page.js
var script []byte

// The document, its policy and its tag, made once from parts that never change.
var document, policy, tag = assemble()

// assemble puts style and script into the markup. The policy names both by their
// hashes: whatever else gets into the page, however it does, is not run.
func assemble() (doc []byte, policy, tag string) {
	doc = bytes.Replace(markup, []byte("/*style*/"), style, 1)
	doc = bytes.Replace(doc, []byte("/*script*/"), script, 1)
	policy = "default-src 'none'; script-src '" + hash(script) + "'; style-src '" + hash(style) + "'; connect-src 'self'; img-src data:; " +
		"base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
	sum := sha256.Sum256(doc)
	return doc, policy, `"` + hex.EncodeToString(sum[:12]) + `"`
}

func hash(part []byte) string {
	sum := sha256.Sum256(part)
	return "sha256-" + base64.StdEncoding.EncodeToString(sum[:])
}

// Serve answers GET and HEAD with the page.
func Serve(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Security-Policy", policy)
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Frame-Options", "DENY")
	h.Set("Cache-Control", "no-cache") // asks each time, and is told that nothing changed
	h.Set("ETag", tag)
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(document))
}
