package api

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"testing"

	"sluice/gateway/channel"

	"github.com/google/go-cmp/cmp"
)

// schema is what the description uses of JSON Schema 2020-12. A keyword that is not here
// makes the test fail.
type schema struct {
	Ref                  string            `json:"$ref"`
	Type                 string            `json:"type"`
	Description          string            `json:"description"`
	Properties           map[string]schema `json:"properties"`
	AdditionalProperties *schema           `json:"additionalProperties"`
	Items                *schema           `json:"items"`
	Required             []string          `json:"required"`
	AnyOf                []schema          `json:"anyOf"`
	OneOf                []schema          `json:"oneOf"`
	Enum                 []any             `json:"enum"`
	Minimum              *float64          `json:"minimum"`
	Maximum              *float64          `json:"maximum"`
	MinItems             *int              `json:"minItems"`
	MaxItems             *int              `json:"maxItems"`
	MinProperties        *int              `json:"minProperties"`
	MaxProperties        *int              `json:"maxProperties"`
	MaxLength            *int              `json:"maxLength"`
	ContentEncoding      string            `json:"contentEncoding"`
}

type content map[string]struct {
	Schema   schema `json:"schema"`
	Examples map[string]struct {
		Value json.RawMessage `json:"value"`
	} `json:"examples"`
}

type operation struct {
	OperationID string `json:"operationId"`
	Summary     string `json:"summary"`
	Description string `json:"description"`
	Parameters  []struct {
		Ref string `json:"$ref"`
	} `json:"parameters"`
	RequestBody struct {
		Required bool    `json:"required"`
		Content  content `json:"content"`
	} `json:"requestBody"`
	Responses map[string]struct {
		Ref         string  `json:"$ref"`
		Description string  `json:"description"`
		Content     content `json:"content"`
	} `json:"responses"`
}

type document struct {
	OpenAPI    string                          `json:"openapi"`
	Info       map[string]string               `json:"info"`
	Servers    []map[string]string             `json:"servers"`
	Security   []map[string][]string           `json:"security"`
	Paths      map[string]map[string]operation `json:"paths"`
	Components struct {
		SecuritySchemes map[string]map[string]string `json:"securitySchemes"`
		Parameters      map[string]struct {
			Name        string `json:"name"`
			In          string `json:"in"`
			Description string `json:"description"`
			Schema      schema `json:"schema"`
		} `json:"parameters"`
		Responses map[string]struct {
			Description string  `json:"description"`
			Content     content `json:"content"`
		} `json:"responses"`
		Schemas map[string]schema `json:"schemas"`
	} `json:"components"`
}

// served gives the description as the handler serves it.
func served(t *testing.T) *document {
	t.Helper()
	status, body, header := request(New(&fake{}, Options{}), "GET", "/api/openapi.json", "")
	if status != 200 || header.Get("Content-Type") != "application/json" {
		t.Fatalf("status %d, %q", status, header.Get("Content-Type"))
	}
	d := new(document)
	decoder := json.NewDecoder(strings.NewReader(body))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(d); err != nil {
		t.Fatal(err)
	}
	return d
}

func (d *document) resolve(s schema) (schema, error) {
	if s.Ref == "" {
		return s, nil
	}
	name, ok := strings.CutPrefix(s.Ref, "#/components/schemas/")
	found, known := d.Components.Schemas[name]
	if !ok || !known {
		return schema{}, fmt.Errorf("no such schema: %s", s.Ref)
	}
	return found, nil
}

// check tells what is wrong with a value. A property that the schema has not is wrong.
func (d *document) check(s schema, v any) error {
	s, err := d.resolve(s)
	if err != nil {
		return err
	}
	if len(s.OneOf) > 0 {
		fits := 0
		for _, one := range s.OneOf {
			if d.check(one, v) == nil {
				fits++
			}
		}
		if fits != 1 {
			return fmt.Errorf("%v fits %d of oneOf", v, fits)
		}
		return nil
	}
	if len(s.Enum) > 0 && !slices.Contains(s.Enum, v) {
		return fmt.Errorf("%v is not in enum", v)
	}
	out := func(n float64, low, high *int) bool {
		return low != nil && n < float64(*low) || high != nil && n > float64(*high)
	}
	wrong := fmt.Errorf("%v is no %s within its bounds", v, s.Type)
	switch s.Type {
	case "":
		return nil // anything
	case "string":
		if text, ok := v.(string); !ok || out(float64(len(text)), nil, s.MaxLength) {
			return wrong
		}
	case "integer", "number":
		n, ok := v.(float64)
		if !ok || s.Type == "integer" && n != float64(int64(n)) || s.Minimum != nil && n < *s.Minimum || s.Maximum != nil && n > *s.Maximum {
			return wrong
		}
	case "boolean":
		if _, ok := v.(bool); !ok {
			return wrong
		}
	case "null":
		if v != nil {
			return wrong
		}
	case "array":
		list, ok := v.([]any)
		if !ok || out(float64(len(list)), s.MinItems, s.MaxItems) {
			return wrong
		}
		for i, v := range list {
			if err := d.check(*s.Items, v); err != nil {
				return fmt.Errorf("[%d]: %w", i, err)
			}
		}
	case "object":
		fields, ok := v.(map[string]any)
		if !ok || out(float64(len(fields)), s.MinProperties, s.MaxProperties) {
			return wrong
		}
		return d.checkFields(s, fields)
	default:
		return fmt.Errorf("no such type: %s", s.Type)
	}
	return nil
}

func (d *document) checkFields(s schema, fields map[string]any) error {
	has := func(names []string) bool {
		return !slices.ContainsFunc(names, func(name string) bool { _, ok := fields[name]; return !ok })
	}
	if !has(s.Required) {
		return fmt.Errorf("%v has not all of %v", fields, s.Required)
	}
	if len(s.AnyOf) > 0 && !slices.ContainsFunc(s.AnyOf, func(any schema) bool { return has(any.Required) }) {
		return fmt.Errorf("%v has none of anyOf", fields)
	}
	for name, v := range fields {
		p, ok := s.Properties[name]
		if !ok && s.AdditionalProperties == nil {
			return fmt.Errorf("no property %s", name)
		}
		if !ok {
			p = *s.AdditionalProperties
		}
		if err := d.check(p, v); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}

func (d *document) checkJSON(s schema, raw string) error {
	var v any
	if err := json.Unmarshal([]byte(raw), &v); err != nil {
		return err
	}
	return d.check(s, v)
}

func allMethods() []string {
	names := []string{"batch"}
	for _, m := range methods {
		names = append(names, m.name)
	}
	slices.Sort(names)
	return names
}

func TestEveryPathIsDescribedAndEveryDescribedPathIsHandled(t *testing.T) {
	d := served(t)
	want := []string{"GET /api/openapi.json"}
	for _, name := range allMethods() {
		want = append(want, "POST /api/"+name)
	}
	var got []string
	for path, verbs := range d.Paths {
		for verb, op := range verbs {
			verb = strings.ToUpper(verb)
			got = append(got, verb+" "+path)
			name := strings.TrimSuffix(strings.TrimPrefix(path, "/api/"), ".json")
			if op.OperationID != name || op.Summary == "" {
				t.Errorf("%s: operationId %q, summary %q", path, op.OperationID, op.Summary)
			}
			if status, _, _ := request(New(&fake{}, Options{}), verb, path, `{`); status == http.StatusNotFound || status == http.StatusMethodNotAllowed {
				t.Errorf("%s %s is not handled: %d", verb, path, status)
			}
		}
	}
	slices.Sort(got)
	slices.Sort(want)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if !strings.HasPrefix(d.OpenAPI, "3.1.") {
		t.Errorf("openapi %q", d.OpenAPI)
	}
}

// types are those of the schemas. Done, Command and Reply are of no type: they are made of methods.
var types = map[string]any{
	"Error": Error{}, "Empty": Empty{},
	"PublishRequest": PublishRequest{}, "PublishResult": PublishResult{}, "PublishResponse": PublishResponse{},
	"BroadcastRequest": BroadcastRequest{}, "BroadcastResult": BroadcastResult{},
	"BatchRequest": BatchRequest{}, "BatchResponse": BatchResponse{},
	"SubscribeRequest": SubscribeRequest{}, "UnsubscribeRequest": UnsubscribeRequest{},
	"DisconnectRequest": DisconnectRequest{}, "Disconnect": Disconnect{}, "RefreshRequest": RefreshRequest{},
	"ChannelRequest": ChannelRequest{}, "ClientInfo": channel.ClientInfo{}, "PresenceResult": PresenceResult{}, "PresenceStatsResult": PresenceStatsResult{},
	"StreamPosition": StreamPosition{}, "HistoryRequest": HistoryRequest{}, "HistoryResult": HistoryResult{}, "Publication": Publication{},
	"ChannelsRequest": ChannelsRequest{}, "ChannelsResult": ChannelsResult{}, "ChannelInfo": ChannelInfo{},
	"ChannelStatsRequest": ChannelStatsRequest{}, "ChannelStatsResult": ChannelStatsResult{}, "ChannelStats": ChannelStats{},
	"InfoRequest": InfoRequest{}, "InfoResult": InfoResult{}, "EngineInfo": EngineInfo{}, "ActionResult": ActionResult{}, "NodeInfo": NodeInfo{}, "Process": Process{},
}

// shape gives what a schema says of a Go type: "" for any JSON.
func shape(t reflect.Type) string {
	switch t.Kind() {
	case reflect.Pointer:
		return shape(t.Elem())
	case reflect.String:
		return "string"
	case reflect.Bool:
		return "boolean"
	case reflect.Int, reflect.Int64, reflect.Uint32, reflect.Uint64:
		return "integer"
	case reflect.Float64:
		return "number"
	case reflect.Slice:
		switch t {
		case reflect.TypeFor[json.RawMessage]():
			return ""
		case reflect.TypeFor[[]byte]():
			return "string"
		}
		return "array of " + shape(t.Elem())
	case reflect.Map:
		return "map of " + shape(t.Elem())
	case reflect.Struct:
		return t.Name()
	}
	return "nothing"
}

// shape of a schema, as that of a type.
func (d *document) shape(s schema) string {
	name := strings.TrimPrefix(s.Ref, "#/components/schemas/")
	switch {
	case name == "Command" || name == "Reply":
		return ""
	case name != "":
		return name
	case s.Items != nil:
		return "array of " + d.shape(*s.Items)
	case s.AdditionalProperties != nil:
		return "map of " + d.shape(*s.AdditionalProperties)
	case s.Type == "null":
		return "" // any JSON, of which one is allowed
	}
	return s.Type
}

func TestSchemasHaveTheFieldsOfTheTypes(t *testing.T) {
	d := served(t)
	for name, v := range types {
		s, ok := d.Components.Schemas[name]
		if !ok {
			t.Errorf("no schema %s", name)
			continue
		}
		want, got := map[string]string{}, map[string]string{}
		var always []string
		for _, f := range reflect.VisibleFields(reflect.TypeOf(v)) {
			field, omit, _ := strings.Cut(f.Tag.Get("json"), ",")
			if field == "-" || !f.IsExported() {
				continue
			}
			want[field] = shape(f.Type)
			if omit == "" {
				always = append(always, field)
			}
		}
		if name == "BatchResponse" {
			want["replies"] = "array of " // a reply is made of methods
		}
		for field, p := range s.Properties {
			got[field] = d.shape(p)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: (-type +schema):\n%s", name, diff)
		}
		if name == "StreamPosition" || name == "Disconnect" {
			continue // in requests, where each of their fields has a zero value
		}
		slices.Sort(always)
		if diff := cmp.Diff(always, slices.Sorted(slices.Values(s.Required))); diff != "" {
			t.Errorf("%s: required (-type +schema):\n%s", name, diff)
		}
	}
	for name := range d.Components.Schemas {
		if _, ok := types[name]; !ok && name != "Done" && name != "Acted" && name != "Command" && name != "Reply" {
			t.Errorf("schema %s is of no type", name)
		}
	}
}

// TestSchemasOfMethodsAreTheirs looks at what is made of methods: the paths, and commands and
// replies of a batch.
func TestSchemasOfMethodsAreTheirs(t *testing.T) {
	d := served(t)
	command, reply := d.Components.Schemas["Command"], d.Components.Schemas["Reply"]
	for _, m := range methods {
		op := d.Paths["/api/"+m.name]["post"]
		if got, want := command.Properties[m.name].Ref, op.RequestBody.Content["application/json"].Schema.Ref; got != want || got == "" {
			t.Errorf("%s: a command has %q, the path %q", m.name, got, want)
		}
		answer, err := d.resolve(op.Responses["200"].Content["application/json"].Schema)
		if err != nil {
			t.Fatal(err)
		}
		if got, want := reply.Properties[m.name].Ref, answer.Properties["result"].Ref; got != want || got == "" {
			t.Errorf("%s: a reply has %q, the path %q", m.name, got, want)
		}
		if len(answer.Properties) != 2 || answer.Properties["error"].Ref != "#/components/schemas/Error" {
			t.Errorf("%s: the answer has %v", m.name, slices.Collect(maps.Keys(answer.Properties)))
		}
		if op.Responses["default"].Ref != "#/components/responses/Refused" || len(op.Parameters) != 1 || op.Parameters[0].Ref != "#/components/parameters/ErrorMode" {
			t.Errorf("%s: responses or parameters are not those of all methods", m.name)
		}
	}
	if len(command.Properties) != len(methods) || len(reply.Properties) != len(methods)+1 {
		t.Errorf("a command has %d methods, a reply %d", len(command.Properties), len(reply.Properties)-1)
	}
}

// answering is a node that has something to answer in every field.
func answering() *fake {
	who := channel.ClientInfo{User: "42", Client: "b0c1", ConnInfo: json.RawMessage(`{"name":"Ann"}`), ChanInfo: json.RawMessage(`1`)}
	return &fake{
		clients: map[string]channel.ClientInfo{"b0c1": who},
		history: HistoryResult{[]Publication{{Offset: 1, Data: json.RawMessage(`{}`), Info: &who, Tags: map[string]string{"k": "v"}}, {Offset: 2, B64Data: []byte("x")}}, "xyz", 2},
		info:    InfoResult{Nodes: []NodeInfo{{Process: &Process{1.5, 1}, Away: true, Silent: 3}}, Partial: true, Engine: &EngineInfo{Parts: map[string]bool{"store": true}, Gaps: map[string]uint64{"slow": 1}}},
		partial: true,
	}
}

func TestExamplesAreWhatTheHandlersTakeAndGive(t *testing.T) {
	d := served(t)
	for path, verbs := range d.Paths {
		op, ok := verbs["post"]
		if !ok {
			continue
		}
		request, response := op.RequestBody.Content["application/json"], op.Responses["200"].Content["application/json"]
		if len(request.Examples) == 0 || len(response.Examples) == 0 {
			t.Errorf("%s has no examples", path)
		}
		for name, example := range request.Examples {
			if err := d.checkJSON(request.Schema, string(example.Value)); err != nil {
				t.Errorf("%s, request %q: %v", path, name, err)
			}
			node := answering()
			status, got, _ := ask(New(node, Options{}), strings.TrimPrefix(path, "/api/"), string(example.Value))
			if status != 200 || strings.Contains(got, `"error"`) || len(node.calls) == 0 {
				t.Errorf("%s, request %q: %d %s", path, name, status, got)
			}
			if err := d.checkJSON(response.Schema, got); err != nil {
				t.Errorf("%s, answer to %q: %v", path, name, err)
			}
		}
		for name, example := range response.Examples {
			if err := d.checkJSON(response.Schema, string(example.Value)); err != nil {
				t.Errorf("%s, response %q: %v", path, name, err)
			}
		}
	}
}

// TestRequiredIsWhatTheHandlersRefuseWithout takes fields from the examples: without a required one
// the request is refused, without any other it is not.
func TestRequiredIsWhatTheHandlersRefuseWithout(t *testing.T) {
	d := served(t)
	tried := 0
	for path, verbs := range d.Paths {
		op, ok := verbs["post"]
		if !ok {
			continue
		}
		request := op.RequestBody.Content["application/json"]
		s, err := d.resolve(request.Schema)
		if err != nil {
			t.Fatal(err)
		}
		for name, example := range request.Examples {
			var fields map[string]json.RawMessage
			if err := json.Unmarshal(example.Value, &fields); err != nil {
				t.Fatal(err)
			}
			for field := range fields {
				less := maps.Clone(fields)
				delete(less, field)
				alternative := func(any schema) bool { _, ok := less[any.Required[0]]; return ok }
				refused := slices.Contains(s.Required, field) || len(s.AnyOf) > 0 && !slices.ContainsFunc(s.AnyOf, alternative)
				body, err := json.Marshal(less)
				if err != nil {
					t.Fatal(err)
				}
				tried++
				_, got, _ := ask(New(answering(), Options{}), strings.TrimPrefix(path, "/api/"), string(body))
				if is := strings.HasPrefix(got, `{"error":{"code":107,`); is != refused {
					t.Errorf("%s, %q without %s: %s; want it refused: %t", path, name, field, got, refused)
				}
				if is := strings.Contains(got, field); refused && !is {
					t.Errorf("%s, %q without %s: %s", path, name, field, got)
				}
			}
		}
		if op.RequestBody.Required != (len(s.Required)+len(s.AnyOf) > 0) {
			t.Errorf("%s: its body is required: %t", path, op.RequestBody.Required)
		}
	}
	if tried < 30 {
		t.Errorf("only %d tried", tried)
	}
}

func TestAllErrorCodesAreListed(t *testing.T) {
	d := served(t)
	code := d.Components.Schemas["Error"].Properties["code"]
	_, mode, _ := strings.Cut(d.Components.Parameters["ErrorMode"].Description, ": ")
	mode, _, _ = strings.Cut(mode, ". ")
	var want []any
	for _, e := range []*Error{
		ErrInternal, ErrUnauthorized, ErrUnknownChannel, ErrPermissionDenied, ErrMethodNotFound, ErrAlreadySubscribed, ErrLimitExceeded,
		ErrBadRequest, ErrNotAvailable, ErrTokenExpired, ErrExpired, ErrTooManyRequests, ErrUnrecoverablePosition,
	} {
		want = append(want, float64(e.Code))
		if entry := fmt.Sprintf("%d %s", e.Code, e.Message); !strings.Contains(code.Description, entry) {
			t.Errorf("%q is not in the description", entry)
		}
		described := false
		for clause := range strings.SplitSeq(mode, ";") {
			codes, statuses, _ := strings.Cut(clause, " as ")
			described = described || strings.Contains(codes, fmt.Sprint(e.Code)) && strings.Contains(statuses, fmt.Sprint(e.status()))
		}
		if !described {
			t.Errorf("the status of %d, %d, is not described", e.Code, e.status())
		}
	}
	if diff := cmp.Diff(want, code.Enum); diff != "" {
		t.Error(diff)
	}
	if want[0] != 100. || want[12] != 112. {
		t.Errorf("codes %v", want)
	}
}

func whole(n *float64) *int {
	if n == nil {
		return nil
	}
	i := int(*n)
	return &i
}

// TestBoundsAreDescribed compares what the schemas say with what the handlers have.
func TestBoundsAreDescribed(t *testing.T) {
	s := served(t).Components.Schemas
	for _, tt := range []struct {
		name string
		got  *int
		want int
	}{
		{"commands", s["BatchRequest"].Properties["commands"].MaxItems, commandsMax},
		{"channels", s["BroadcastRequest"].Properties["channels"].MaxItems, channelsMax},
		{"limit", whole(s["ChannelStatsRequest"].Properties["limit"].Maximum), statsMax},
		{"reason", s["Disconnect"].Properties["reason"].MaxLength, reasonMax},
	} {
		if tt.got == nil || *tt.got != tt.want {
			t.Errorf("%s: %v, want %d", tt.name, tt.got, tt.want)
		}
	}
}

func TestRefusalsFitTheirDescription(t *testing.T) {
	d := served(t)
	refused := d.Components.Responses["Refused"].Content["application/json"].Schema
	for _, header := range [][]string{nil, transport} {
		for _, path := range []string{"/api/publish", "/api/batch", "/api/rpc", "/api"} {
			if _, got, _ := request(New(&fake{}, Options{}), "POST", path, `{`, header...); d.checkJSON(refused, got) != nil {
				t.Errorf("%s: %v", path, d.checkJSON(refused, got))
			}
		}
	}
}
