package config

import "testing"

func TestQuestion(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		q  Question
		ok bool
	}{
		{*NewQuestion(), true}, {Question{Headers: []string{"A: b", "C:"}, Client: "2001:db8::1"}, true},
		{Question{Headers: []string{"A"}}, false}, {Question{Headers: []string{": b"}}, false}, {Question{Client: "10.0.0.0/8"}, false},
	} {
		if err := c.q.Validate(); (err == nil) != c.ok {
			t.Errorf("%+v: %v", c.q, err)
		}
	}
}
