package main

import (
	"bytes"
	"os"
	"strings"
	"testing"
)

func TestFileIsWhatTheTableSays(t *testing.T) {
	want, err := build()
	if err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s differs from rows.go: change the table, then write the file with: go run .", file)
	}
}

func TestPanelsFillTheirLines(t *testing.T) {
	titles := map[string]bool{}
	for _, r := range rows {
		column, height := uint32(0), uint32(0)
		for _, p := range r.panels {
			if column > 0 && p.height != height {
				t.Errorf("%s, %s: not as high as the panel beside it", r.title, p.title)
			}
			height = p.height
			if column += p.width; column > 24 {
				t.Errorf("%s, %s: the line is wider than 24 columns", r.title, p.title)
			}
			column %= 24
		}
		if column != 0 {
			t.Errorf("%s: the last line is not full", r.title)
		}
		for _, p := range r.panels {
			if titles[p.title] {
				t.Errorf("two panels are called %s", p.title)
			}
			titles[p.title] = true
			if !strings.HasSuffix(p.about, ".") {
				t.Errorf("%s, %s: the description is not a sentence", r.title, p.title)
			}
			if len(p.queries) > 1 || p.form == graph {
				for _, q := range p.queries {
					if q.legend == "" {
						t.Errorf("%s, %s: a query without a legend", r.title, p.title)
					}
				}
			}
		}
	}
}
