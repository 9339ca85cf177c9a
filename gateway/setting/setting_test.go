package setting

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

func flags(field string) string { return "--" + strings.ToLower(field) }

func TestTextsNameFieldsAsTheReaderKnowsThem(t *testing.T) {
	for _, tt := range []struct{ text, own, flag string }{
		{"", "", ""},
		{"no field", "no field", "no field"},
		{"{Max}", "Max", "--max"},
		{"more than {Max} 5 and {MinTTL}: give {Max} off", "more than Max 5 and MinTTL: give Max off", "more than --max 5 and --minttl: give --max off"},
		{"{x} {} { {Max", "{x} {} { {Max", "{x} {} { {Max"},
		{Literal("{Max} {{Max}} {"), "{Max} {{Max}} {", "{Max} {{Max}} {"},
		{"{Max} " + Literal("{Min}") + " {Max}", "Max {Min} Max", "--max {Min} --max"},
	} {
		if got := Names(nil).Text(tt.text); got != tt.own {
			t.Errorf("%q: got %q, want %q", tt.text, got, tt.own)
		}
		if got := Names(flags).Text(tt.text); got != tt.flag {
			t.Errorf("%q: got %q, want %q", tt.text, got, tt.flag)
		}
	}
}

func TestFaultsAreLines(t *testing.T) {
	for _, tt := range []struct {
		fault     Fault
		own, flag string
	}{
		{Fault{"Max", "{Min}", "is less than {Min} 5", "give {Min} or more"},
			"Max {Min} is less than Min 5: give Min or more", "--max {Min} is less than --min 5: give --min or more"},
		{Fault{Field: "Max", Why: "is not UTF-8"}, "Max is not UTF-8", "--max is not UTF-8"},
		{Fault{Field: "Max", Why: ": \"a\" is bad"}, "Max: \"a\" is bad", "--max: \"a\" is bad"},
		{Fault{Why: "there is too little", Fix: "lower {Max}"}, "there is too little: lower Max", "there is too little: lower --max"},
	} {
		if got := tt.fault.Error(); got != tt.own {
			t.Errorf("got %q, want %q", got, tt.own)
		}
		if got := tt.fault.Text(flags); got != tt.flag {
			t.Errorf("got %q, want %q", got, tt.flag)
		}
	}
	var one Fault
	err := error(Faults{{Field: "A", Why: "is bad"}, {Field: "B", Why: "is worse"}})
	if !errors.As(err, &one) || one.Field != "A" || err.Error() != "A is bad\nB is worse" {
		t.Errorf("%q begins with %v", err, one)
	}
}

func TestErrorsNameFieldsAsTheReaderKnowsThem(t *testing.T) {
	var errLarge error = Error("more than {Max}")
	if got, want := errLarge.Error(), "more than Max"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if got, want := Names(flags).ErrorText(fmt.Errorf("publish: %w", errLarge)), "more than --max"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if got, want := Names(flags).ErrorText(errors.New("{Max}")), "{Max}"; got != want {
		t.Errorf("another error: got %q, want %q", got, want)
	}
}
