package main

import "podlane.dev/podlane/test/node/registry"

// images are those that the chart, the samples, the documents and the scenarios name. Podlane's and the demo's are what Dockerfile and the
// documents make of them; those of others are played by test/backend.
func images(programs map[string]string, busybox string) []registry.Image {
	podlane := registry.Image{Files: map[string]string{"/podlane": programs["podlane"]}, Entrypoint: []string{"/podlane"}, Cmd: []string{"controller"}, User: "65532:65532"}
	backend := registry.Image{
		Files:      map[string]string{"/backend": programs["backend"], "/bin/busybox": busybox},
		Links:      map[string]string{},
		Entrypoint: []string{"/backend"},
	}
	// The probes of the source texts run ls; those who look into a Pod want a shell.
	for _, name := range []string{"ls", "sh", "cat", "touch", "rm", "mkdir", "wget", "nslookup"} {
		backend.Links["/bin/"+name] = "busybox"
	}
	whoami := backend
	whoami.Cmd = []string{"--listen=:80", "--shutdown-delay=2s"}
	var all []registry.Image
	for image, names := range map[*registry.Image][]string{
		&podlane: {"ghcr.io/podlane/podlane", "registry.example.com/podlane"},
		&backend: {"podlane.dev/test/backend", "registry.example.com/goweb"},
		&whoami:  {"docker.io/traefik/whoami"},
	} {
		for _, name := range names {
			named := *image
			named.Name = name
			all = append(all, named)
		}
	}
	return all
}
