// Package console is the operator's page, at / of the internal listener: its files, and the
// sessions of browsers that have logged in with the API key.
//
// The page is plain HTML, CSS and JavaScript in page/, embedded unchanged and held in memory. It
// loads nothing from elsewhere, and its headers forbid it to. It is a client of the HTTP API and
// of the metrics, as any other: a new panel needs no code here. Its one third-party file is uPlot,
// which draws the charts; see page/uplot.txt.
//
// A browser is no program: it sends what another site's page asks for, and the operator's cookie
// with it. So what a browser sends counts only if it comes from the page of the same host ([Own]),
// and the page without a session shows nothing but a form for the key.
//
// The package is one of its own because nothing else in ops knows of browsers. Its sessions and
// guesses are guarded by a mutex each; everything else is set at construction.
//
// The package does not know what it guards: not the API, nor metrics.
package console
