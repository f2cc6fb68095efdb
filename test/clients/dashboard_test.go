package clients_test

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"podlane.dev/podlane/test/faults/resources/serving"
)

// A browser clicks through the dashboard of a podlane with 5,000 routes, some of whose objects hold what would run if it were taken for HTML.
func TestDashboard(t *testing.T) {
	p := newPod(t)
	s := serving.Start(t, serving.Options{
		Program: serving.Program(t), Dir: dashboardFolder(t, p.address()),
		Args: []string{"--access-log=off"},
	})
	v := newViewer(t, s)
	for _, step := range []struct {
		name string
		do   func(*viewer)
	}{
		{"overview", (*viewer).overview}, {"lists", (*viewer).lists}, {"search", (*viewer).searches}, {"pages", (*viewer).pages}, {"keys", (*viewer).keys},
		{"explain", (*viewer).explains}, {"back", (*viewer).goesBack}, {"endpoints", func(v *viewer) { v.endpoints(p) }}, {"hostile", (*viewer).hostile},
		{"colours", (*viewer).colours}, {"narrow", (*viewer).narrow}, {"plots", (*viewer).plots},
	} {
		t.Run(step.name, func(t *testing.T) {
			browser := *v.browser
			browser.t = t
			mine := &viewer{browser: &browser, podlane: s}
			browser.event = mine.note
			step.do(mine)
			mine.run("if (window.pwned !== undefined) throw new Error('a script of an object ran');", nil)
			for _, complaint := range mine.complaints {
				t.Errorf("the browser complains: %s", complaint)
			}
			v.id = browser.id
		})
	}
	for _, complaint := range v.complaints {
		t.Errorf("the browser complains: %s", complaint)
	}
}

// overview: the address without a path leads here; state and numbers are those of the folder.
func (v *viewer) overview() {
	var got struct {
		Path, Title, Routes, Endpoints string
		Problems                       int
		Figures                        int
	}
	v.run(`
		await until(() => document.querySelectorAll('figure').length === 4 && document.querySelector('[data-count=routes]').textContent);
		const count = (name) => document.querySelector('[data-count=' + name + ']').textContent;
		return { path: location.pathname, title: document.title, routes: count('routes'), endpoints: count('endpoints'), problems: Number(count('problems')), figures: 4 };`, &got)
	if got.Path != "/dashboard/" || got.Title != "Overview – Podlane" || got.Routes != fmt.Sprint(dashboardRoutes+2*len(payloads)) || got.Problems == 0 {
		v.t.Errorf("%+v", got)
	}
	if got.Endpoints != fmt.Sprint(dashboardRoutes+len(payloads)) {
		v.t.Errorf("%s endpoints", got.Endpoints)
	}
}

// lists: each view shows its list, with a heading for each column.
func (v *viewer) lists() {
	for name, first := range map[string]string{"routes": "Host", "endpoints": "Service", "certificates": "Hosts", "problems": "Object"} {
		var got struct {
			First, Title, Found string
			Columns, Rows, Wide int
		}
		v.run(fmt.Sprintf(`
			await see(%q);
			await until(() => document.querySelector('#list th')?.textContent === %q);
			const heads = [...document.querySelectorAll('#list th')];
			return { first: heads[0].textContent, title: document.title, found: $('found').textContent, columns: heads.length,
				rows: rows().length, wide: rows().filter((r) => r.cells.length === heads.length).length };`, name, first), &got)
		if got.Columns < 5 || got.Rows == 0 || got.Rows != got.Wide || got.Rows > 50 || !strings.HasPrefix(got.Found, "1–") || !strings.HasSuffix(strings.ToLower(got.Title), name+" – podlane") {
			v.t.Errorf("%s: %+v", name, got)
		}
	}
}

// searches: rows with all words, in any order; what is found nowhere says so.
func (v *viewer) searches() {
	var got []string
	v.run(`
		await see('routes');
		await search('team-7 APP-4207', '1–1 of 1, 5006 in all');
		const hosts = rows().map((r) => r.cells[0].textContent + r.cells[3].textContent);
		await search('nobody has this', '0 of 5006');
		return [...hosts, rows()[0].textContent, String($('next').disabled && $('previous').disabled)];`, &got)
	if strings.Join(got, "|") != "app-4207.exampleteam-7/app-4207|Nothing has all these words.|true" {
		v.t.Errorf("%q", got)
	}
}

// pages: forth and back by the buttons, which are off at the ends.
func (v *viewer) pages() {
	var got []string
	v.run(`
		await see('overview'); await see('routes');
		await until(() => $('found').textContent === '1–50 of 5006');
		const first = rows()[0].textContent, off = $('previous').disabled;
		$('next').click();
		await until(() => $('found').textContent === '51–100 of 5006');
		const second = rows()[0].textContent;
		$('previous').click();
		await until(() => $('found').textContent === '1–50 of 5006');
		const again = rows()[0].textContent;
		await search('team-7', '1–50 of 100, 5006 in all');
		$('next').click();
		await until(() => $('found').textContent === '51–100 of 100, 5006 in all');
		return [String(off), String(first !== second && first === again), String($('next').disabled), String(rows().length)];`, &got)
	if strings.Join(got, "|") != "true|true|true|50" {
		v.t.Errorf("%q", got)
	}
}

// keys: everything goes without a mouse.
func (v *viewer) keys() {
	v.run("await see('overview'); await see('routes'); await until(() => $('found').textContent === '1–50 of 5006'); document.activeElement.blur();", nil)
	at := func(want string) {
		v.t.Helper()
		var got string
		v.run("return (document.activeElement.id || 'row ' + rows().indexOf(document.activeElement)) + ', ' + $('q').value;", &got)
		if got != want {
			v.t.Errorf("the focus is at %q, want %q", got, want)
		}
	}
	v.press("/")
	at("q, ")
	v.press("/")
	at("q, /")
	v.run("await search('', '1–50 of 5006'); $('q').focus();", nil)
	v.press("ArrowDown", "ArrowDown", "ArrowDown")
	at("row 2, ")
	v.press("ArrowUp")
	at("row 1, ")
	v.press("End")
	at("row 49, ")
	v.press("Home", "ArrowUp")
	at("q, ")
	v.press("ArrowDown", "ArrowRight")
	v.run("await until(() => $('found').textContent === '51–100 of 5006');", nil)
	v.press("ArrowDown", "ArrowDown")
	v.press("ArrowLeft")
	v.run("await until(() => $('found').textContent === '1–50 of 5006');", nil)
}

// explains: Enter on a route asks about it, and the form about anything else; what cannot be asked is said.
func (v *viewer) explains() {
	v.run("await see('routes'); await search('app-4207', '1–1 of 1, 5006 in all'); $('q').focus();", nil)
	v.press("ArrowDown", "Enter")
	ask := func(set, want string) {
		v.t.Helper()
		var got string
		v.run(set+` await until(() => !$('view-explain').hidden && $('answer').textContent.length > 1); return $('url').value + ' ' + $('answer').textContent;`, &got)
		if !strings.Contains(got, want) {
			v.t.Errorf("the answer has no %q: %s", want, got)
		}
	}
	ask("", "team-7/app-4207")
	v.picture("explain")
	form := func(url, method, fields string) string {
		return fmt.Sprintf(`await see('explain'); $('url').value = %q; $('method').value = %q; $('fields').value = %q; $('answer').textContent = '';
			document.querySelector('#question button').click();`, url, method, fields)
	}
	ask(form("http://nobody.example/", "GET", ""), "404")
	ask(form("http://app-1.example/", "POST", "X-A: b\nX-C: d"), "team-1/app-1")
	ask(form("http://app-1.example/", "GET", "no field"), "no field")
	ask(form("ftp://app-1.example/", "GET", ""), "ftp")
}

// goesBack: the browser's own button leads back to the search.
func (v *viewer) goesBack() {
	v.run(`
		await see('routes');
		await search('team-7', '1–50 of 100, 5006 in all');
		$('next').click();
		await until(() => $('found').textContent.startsWith('51–100'));
		rows()[0].querySelector('a').click();
		await until(() => !$('view-explain').hidden && $('answer').textContent.includes('team-7/'));
		history.back();
		await until(() => !$('list').hidden && $('found').textContent === '51–100 of 100, 5006 in all' && $('q').value === 'team-7');`, nil)
}

// endpoints: a request that is under way, and the time of answers, are seen without anything being pressed.
func (v *viewer) endpoints(p *pod) {
	v.run(`await see('endpoints'); await search('app-4321', '1–1 of 1, 5003 in all');
		await until(() => rows()[0].cells[4].textContent === '0' && rows()[0].cells[5].textContent === '–');`, nil)
	v.request("app-4321.example", "/hello")
	v.run("await until(() => /^[0-9.]+ ms$/.test(rows()[0].cells[5].textContent));", nil)
	ctx, cancel := context.WithCancel(v.t.Context())
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+v.podlane.HTTP+"/hang", nil)
	if err != nil {
		v.t.Fatal(err)
	}
	r.Host = "app-4321.example"
	transport := &http.Transport{DisableKeepAlives: true}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if answer, err := transport.RoundTrip(r); err == nil {
			answer.Body.Close()
		}
	}()
	receive(v.t, "the request at the Pod", p.next)
	v.run("await until(() => rows()[0].cells[4].textContent === '1');", nil)
	cancel()
	receive(v.t, "the Pod to see that the client has gone", p.canceled)
	<-ended
	v.run("await until(() => rows()[0].cells[4].textContent === '0');", nil)
}

// hostile: text of objects is shown as text.
func (v *viewer) hostile() {
	for _, view := range []string{"routes", "endpoints", "certificates", "problems"} {
		var shown, elements string
		v.run(fmt.Sprintf(`
			await see(%q);
			$('q').value = 'hostile'; $('q').dispatchEvent(new Event('input'));
			await until(() => /^1–\d+ of \d+/.test($('found').textContent) && rows().every((r) => r.textContent.includes('hostile')));
			return document.querySelector('#list tbody').textContent;`, view), &shown)
		v.run(`return String(document.querySelectorAll('#list tbody :is(img, script, svg, iframe)').length);`, &elements)
		if elements != "0" {
			v.t.Errorf("%s: %s elements were made of text", view, elements)
		}
		for _, payload := range payloads {
			if !strings.Contains(strings.ReplaceAll(shown, `\"`, `"`), payload) { // Problems quote
				v.t.Errorf("%s: %s is not shown: %.2000s", view, payload, shown)
			}
		}
		v.picture("hostile-" + view)
	}
	v.run(`
		await see('routes');
		await search('hostile img', '1–2 of 2, 5006 in all');
		const link = rows().map((r) => r.querySelector('a')).find((a) => a.textContent.includes('<img'));
		link.click();
		await until(() => !$('view-explain').hidden && $('answer').textContent.includes('hostile-0'));
		if ($('answer').children.length) throw new Error('the answer has elements');`, nil)
}

// views are all views, for those who look at them.
var views = []string{"overview", "routes", "endpoints", "certificates", "problems", "explain"}

// colours: the page is dark where that is asked for.
func (v *viewer) colours() {
	ground := map[string]string{}
	for _, scheme := range []string{"light", "dark"} {
		v.prefer(scheme)
		var got string
		v.run("return getComputedStyle(document.body).backgroundColor + getComputedStyle(document.body).color;", &got)
		ground[scheme] = got
		for _, view := range views {
			v.run(fmt.Sprintf("await see(%q);", view), nil)
			v.picture(view + "-" + scheme)
		}
	}
	if ground["light"] == ground["dark"] || !strings.HasPrefix(ground["light"], "rgb(255, 255, 255)") {
		v.t.Errorf("%q", ground)
	}
	v.prefer("light")
}

// narrow: on a telephone nothing is cut off; tables scroll within their frame.
func (v *viewer) narrow() {
	for _, width := range []int{360, 800} {
		v.size(width, 740)
		for _, view := range views {
			var got struct{ Width, Inner int }
			v.run(fmt.Sprintf("await see(%q); return { width: document.scrollingElement.scrollWidth, inner: innerWidth };", view), &got)
			if got.Width > got.Inner || got.Inner != width {
				v.t.Errorf("%s is %d wide in a window of %d", view, got.Width, got.Inner)
			}
			v.picture(fmt.Sprintf("%s-%d", view, width))
		}
	}
	v.size(1440, 900)
}

// plots: after traffic all pictures have points, and the last ones are numbers.
func (v *viewer) plots() {
	v.run("await see('overview');", nil)
	for i := range 20 {
		v.request(fmt.Sprintf("app-%d.example", i), "/hello")
	}
	var got struct {
		Lines, Points int
		Peak          string
	}
	v.run(`
		const lines = () => [...document.querySelectorAll('#view-overview polyline')];
		await until(() => lines().length === 7 && lines().every((l) => l.points.numberOfItems >= 2) && [...lines()[0].points].some((p) => p.y < 159));
		return { lines: lines().length, points: Math.min(...lines().map((l) => l.points.numberOfItems)), peak: document.querySelector('.up').textContent };`, &got)
	if got.Lines != 7 || got.Points < 2 || got.Peak == "" {
		v.t.Errorf("%+v", got)
	}
	v.run("if (document.querySelector('#early:not([hidden])')) throw new Error('it says that there are no points yet');", nil)
	v.picture("plots")
}
