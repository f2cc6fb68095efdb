// Package replicas finds the running replicas of Podlane and the base URLs of their admin pages: those that the user names, or the
// Pods of a cluster, whose admin ports, which listen on the Pods' loopback interface only, are forwarded to this machine as kubectl
// port-forward does. It owns the forwards. It knows neither what the pages say nor where a kubeconfig lies.
package replicas
