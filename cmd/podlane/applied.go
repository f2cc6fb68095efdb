package main

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"text/tabwriter"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"podlane.dev/podlane/controllers"
)

// maxAsked bounds the objects of one question.
const maxAsked = 100

// appliedFunc says what a replica has made of an object.
type appliedFunc func(kind string, name types.NamespacedName) (controllers.Applied, error)

// appliedJSON is /debug/applied: what is live of the objects that were asked for, in their order.
type appliedJSON struct {
	// SyncedSecondsAgo is 0 while every watch is open, else how long ago the API server was lost.
	SyncedSecondsAgo float64             `json:"syncedSecondsAgo"`
	Objects          []appliedObjectJSON `json:"objects"`
}

type appliedObjectJSON struct {
	Kind      string `json:"kind"`
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
	// Table is the number of the live table.
	Table          uint64            `json:"table"`
	Watched        bool              `json:"watched"`
	Used           bool              `json:"used"`
	Seen           *versionJSON      `json:"seen,omitempty"`
	Live           *versionJSON      `json:"live,omitempty"`
	Problems       []problemJSON     `json:"problems,omitempty"`
	EndpointSlices map[string]string `json:"endpointSlices,omitempty"`
}

type versionJSON struct {
	UID             string `json:"uid"`
	ResourceVersion string `json:"resourceVersion"`
}

func describeVersion(v controllers.Version) *versionJSON {
	if v == (controllers.Version{}) {
		return nil
	}
	return &versionJSON{UID: v.UID, ResourceVersion: v.ResourceVersion}
}

// String returns the resource version, or that there is none.
func (v *versionJSON) String() string {
	if v == nil {
		return "none"
	}
	return v.ResourceVersion
}

// appliedPage answers GET /debug/applied?object=Ingress/namespace/name&object=….
func (p *pages) appliedPage(w http.ResponseWriter, r *http.Request) {
	asked := r.URL.Query()["object"]
	if len(asked) == 0 || len(asked) > maxAsked {
		writeText(w, http.StatusBadRequest, fmt.Sprintf("write ?object=Ingress/namespace/name, up to %d times; Service, Secret and ConfigMap are known too\n", maxAsked))
		return
	}
	answer := appliedJSON{Objects: make([]appliedObjectJSON, 0, len(asked))}
	for _, object := range asked {
		parts := strings.Split(object, "/")
		if len(parts) != 3 {
			writeText(w, http.StatusBadRequest, fmt.Sprintf("%q names no object: write Ingress/namespace/name\n", object))
			return
		}
		a, err := p.applied(parts[0], types.NamespacedName{Namespace: parts[1], Name: parts[2]})
		if err != nil {
			writeText(w, http.StatusBadRequest, err.Error()+"\n")
			return
		}
		answer.Objects = append(answer.Objects, appliedObjectJSON{
			Kind: parts[0], Namespace: parts[1], Name: parts[2],
			Table: a.Generation, Watched: a.Watched, Used: a.Used, Seen: describeVersion(a.Seen), Live: describeVersion(a.Live),
			Problems: describeProblems(a.Problems), EndpointSlices: a.Slices,
		})
	}
	if ago := time.Since(p.synced()); ago > syncSlack {
		answer.SyncedSecondsAgo = ago.Seconds()
	}
	page(func(w io.Writer) { writeApplied(w, answer) }, func() any { return answer })(w, r)
}

// syncSlack is what passes between two readings of the clock.
const syncSlack = time.Second

func writeApplied(w io.Writer, a appliedJSON) {
	if a.SyncedSecondsAgo > 0 {
		fmt.Fprintf(w, "the API server was lost %.0f seconds ago\n", a.SyncedSecondsAgo)
	}
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "OBJECT\tSEEN\tLIVE\tUSED\tTABLE\tPROBLEMS")
	for i := range a.Objects {
		o := &a.Objects[i]
		fmt.Fprintf(table, "%s %s/%s\t%s\t%s\t%t\t%d\t%d\n", o.Kind, o.Namespace, o.Name, o.Seen, o.Live, o.Used, o.Table, len(o.Problems))
	}
	_ = table.Flush() // writes to memory
}
