package main

import (
	"cmp"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"sluice/cmd/internal/option"
	"sluice/cmd/internal/serve"
	"sluice/gateway"
)

var update = flag.Bool("update", false, "write deploy/SETTINGS.md and deploy/METRICS.md anew")

const settingsHead = `# Settings

<!-- Written by 'go test ./cmd/sluice -run TestSettingsPage -update' from the tags of gateway.Config, certificate.Files and
serve.Settings. -->

Every setting of ` + "`sluice serve`" + ` with its default. A setting has one name in three spellings: ` + "`--max-message 128K`" + ` is a flag,
` + "`SLUICE_MAX_MESSAGE=128K`" + ` a variable in the environment, and ` + "`max-message = 128K`" + ` a line in the file of ` + "`--config`" + `. A flag
overrides the environment, and the environment overrides the file ([more](OPERATIONS.md#settings)). ` + "`sluice config`" + ` prints the
values in effect and their sources, and ` + "`sluice check`" + ` says what is wrong with them.

- Below the option is its field in ` + "`gateway.Config`" + `, for [Go programs](recipes/embed.md) that embed the gateway. There, zero
  means the default, and a negative number means ` + "`off`" + `.
- Sizes are numbers of bytes, or have a unit: ` + "`64KiB`, `64K` (the same), `1MiB`, `2G`" + `. Times have one: ` + "`500ms`, `10s`, `2m`" + `. Rates are
  numbers per second, such as ` + "`50`" + ` or ` + "`50/s`" + `.
- Lists are separated by commas, or their option is repeated.
- Where reload says *live*, a [reload](OPERATIONS.md#reloading) applies a change, of the value or of the file that it names. *restart*: a change takes effect when the gateway is
  restarted, or [upgraded](OPERATIONS.md#upgrading-without-closing-connections) to the same version, and a reload with such a change is refused. The files of certificates reload by themselves; other files of
  certificates need a restart.
`

// settingsPage returns the reference of all settings.
func settingsPage() string {
	var b strings.Builder
	b.WriteString(settingsHead)
	group := ""
	for _, opt := range option.New(new(serve.Settings)).List {
		if opt.Group != group {
			group = opt.Group
			fmt.Fprintf(&b, "\n## %s\n\n| option | default | range | unit | reload | what it does |\n|---|---|---|---|---|---|\n", group)
		}
		name := "`--" + opt.Name + "`"
		if _, ok := reflect.TypeFor[gateway.Config]().FieldByName(opt.Field); ok {
			name += "<br>`" + opt.Field + "`"
		} else if _, ok := reflect.TypeFor[gateway.Store]().FieldByName(opt.Field); ok {
			name += "<br>`Store." + opt.Field + "`"
		}
		initial := "none"
		if opt.Default != "" {
			initial = "`" + opt.Default + "`"
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %s | %s |\n", name, initial, rangeOf(opt), unitOf(opt), reloadOf(opt), inMarkdown(opt.Help))
	}
	return b.String()
}

// reloadOf returns when a change takes effect.
func reloadOf(opt *option.Option) string {
	if opt.Reload == "on SIGHUP" {
		return "live"
	}
	return cmp.Or(opt.Reload, "restart")
}

// rangeOf returns the values that an option accepts.
func rangeOf(opt *option.Option) string {
	var values []string
	least, _, _ := strings.Cut(opt.Min, ",")
	most, _, _ := strings.Cut(opt.Max, ",")
	if least == "" && (opt.Meta == "N" || opt.Meta == "RATE") {
		least = "1"
	}
	switch {
	case least != "" && most != "":
		values = append(values, least+" to "+most)
	case least != "":
		values = append(values, "at least "+least)
	case most != "":
		values = append(values, "at most "+most)
	}
	if !opt.List {
		for _, word := range opt.Words {
			values = append(values, "`"+word+"`")
		}
	}
	if opt.Default == "auto" && opt.Words == nil {
		values = append(values, "`auto`")
	}
	if opt.Off != "" {
		values = append(values, "`off`: "+opt.Off)
	}
	return inMarkdown(strings.Join(values, "; "))
}

// unitOf returns what a value is.
func unitOf(opt *option.Option) string {
	words := map[string]string{"SIZE": "bytes", "RATE": "per second", "N": "number", "": "word", "ADDR": "address", "DIR": "directory", "URL": "URL"}
	unit, ok := words[opt.Meta]
	if !ok {
		unit = strings.ToLower(opt.Meta)
	}
	if opt.List && opt.Meta != "LIST" {
		unit = "list: " + unit
	}
	return unit
}

var flagInText = regexp.MustCompile(`--[a-z][a-z-]*[a-z]`)

// inMarkdown writes a help text as Markdown.
func inMarkdown(text string) string {
	return flagInText.ReplaceAllString(strings.ReplaceAll(text, "*", `\*`), "`$0`")
}

func TestSettingsPage(t *testing.T) {
	file := filepath.Join("..", "..", "deploy", "SETTINGS.md")
	want := settingsPage()
	if *update {
		if err := os.WriteFile(file, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(file)
	if err != nil || string(got) != want {
		t.Errorf("%s is not what the settings' tags say: go test ./cmd/sluice -run TestSettingsPage -update (%v)", file, err)
	}
}
