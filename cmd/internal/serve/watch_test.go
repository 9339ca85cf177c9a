package serve

import "testing"

// Files are loaded when they have changed and are not being written any more, and once.
func TestWatcherWaitsUntilFilesAreWritten(t *testing.T) {
	was, half, whole := files{"a": {size: 1}}, files{"a": {size: 2}}, files{"a": {size: 3}}
	missing := files{"a": {}}
	loaded := was
	var w watcher
	for i, step := range []struct {
		now  files
		load bool
	}{
		{was, false}, {was, false},
		{half, false}, {whole, false}, {whole, true}, {whole, false}, {whole, false},
		{missing, false}, {missing, true}, {missing, false},
		{whole, false}, {missing, false}, {missing, false},
	} {
		due := w.due(step.now, loaded)
		if due != step.load {
			t.Errorf("look %d: due %v, want %v", i, due, step.load)
		}
		if due { // whether it fails or not
			loaded = step.now
		}
	}
}
