package chart_test

import (
	"strings"
	"testing"
)

// TestValuesAreRefused: each mistake is refused with a message that names the value.
func TestValuesAreRefused(t *testing.T) {
	t.Parallel()
	for set, want := range map[string]string{
		// By the schema.
		"controller.replicaCont=3":                             "'/controller': additional properties 'replicaCont' not allowed",
		"replicaCount=3":                                       "additional properties 'replicaCount' not allowed",
		"controller.replicaCount=many":                         "'/controller/replicaCount': got string, want integer",
		"controller.replicaCount=-1":                           "'/controller/replicaCount': minimum",
		"controller.kind=StatefulSet":                          "'/controller/kind'",
		"controller.minAvailable=half":                         "'/controller/minAvailable'",
		"controller.image.digest=sha256:abc":                   "'/controller/image/digest'",
		"controller.image.tag=a:b":                             "'/controller/image/tag'",
		"controller.image.pullPolicy=Sometimes":                "'/controller/image/pullPolicy'",
		"controller.metrics.port=70000":                        "'/controller/metrics/port': maximum",
		"controller.service.type=External":                     "'/controller/service/type'",
		"controller.service.ports.http=0":                      "'/controller/service/ports/http'",
		"controller.service.externalTrafficPolicy=local":       "'/controller/service/externalTrafficPolicy'",
		"controller.service.ipFamilies={ipv4}":                 "'/controller/service/ipFamilies/0'",
		"controller.service.loadBalancerSourceRanges={1.2.3}":  "'/controller/service/loadBalancerSourceRanges/0'",
		"controller.tolerations[0].effekt=NoSchedule":          "additional properties 'effekt' not allowed",
		"controller.tolerations[0].effect=Never":               "'/controller/tolerations/0/effect'",
		"controller.topologySpreadConstraints[0].maxSkew=1":    "'/controller/topologySpreadConstraints/0'",
		"controller.affinity.podAntiAfinity.a=b":               "additional properties 'podAntiAfinity' not allowed",
		"controller.resources.request.cpu=1":                   "additional properties 'request' not allowed",
		"controller.readinessProbe.path=/x":                    "additional properties 'path' not allowed",
		"controller.extraArgs.--http-address=:80":              "'--http-address'",
		"controller.extraArgs.log.level=debug":                 "'/controller/extraArgs/log': got object",
		"controller.extraEnvs[0].name=POD_NAME":                "'/controller/extraEnvs/0/name'",
		"controller.ingressClassResource.controllerValue=nope": "'/controller/ingressClassResource/controllerValue'",
		"controller.ingressClassResource.name=Nope":            "'/controller/ingressClassResource/name'",
		"controller.publishService.pathOverride=service":       "'/controller/publishService/pathOverride'",
		"controller.podLabels.app\\.kubernetes\\.io/name=x":    "controller.podLabels: leave out app.kubernetes.io/name",
		"commonLabels.app\\.kubernetes\\.io/component=x":       "commonLabels: leave out app.kubernetes.io/component",
		"controller.spool.sizeLimit=lots":                      "'/controller/spool/sizeLimit'",
		"commonLabels.a=1":                                     "'/commonLabels/a': got number, want string",
		"fullnameOverride=Edge_1":                              "'/fullnameOverride'",
		"controller.maxUnavailable=some":                       "'/controller/maxUnavailable'",
		"controller.updateStrategy.type=BlueGreen":             "'/controller/updateStrategy/type'",
		"controller.updateStrategy.rollingUpdate.maxSurge=x":   "'/controller/updateStrategy/rollingUpdate/maxSurge'",
		"controller.autoscaling.minReplicas=0":                 "'/controller/autoscaling/minReplicas': minimum",
		"controller.autoscaling.behaviour.scaleUp=1":           "additional properties 'behaviour' not allowed",
		"controller.autoscaling.behavior.scaleUp.wait=1":       "additional properties 'wait' not allowed",
		"controller.autoscalingTemplate[0].type=Disk":          "'/controller/autoscalingTemplate/0/type'",
		"controller.hostPort.ports.http=0":                     "'/controller/hostPort/ports/http': minimum",
		"controller.hostNetwork=yes-please":                    "'/controller/hostNetwork': got string",
		"controller.dnsPolicy=Host":                            "'/controller/dnsPolicy'",
		"controller.extraVolumes[0].emptyDir.medium=Memory":    "'/controller/extraVolumes/0': missing property 'name'",
		"controller.extraVolumeMounts[0].name=a":               "'/controller/extraVolumeMounts/0': missing property 'mountPath'",
		"controller.extraContainers[0].image=a":                "'/controller/extraContainers/0': missing property 'name'",
		"controller.lifecycle.preStopp.sleep.seconds=1":        "additional properties 'preStopp' not allowed",
		"controller.containerName=Controller":                  "'/controller/containerName'",
		"controller.service.trafficDistribution=Near":          "'/controller/service/trafficDistribution'",
		"controller.service.internal.type=External":            "'/controller/service/internal/type'",
		"controller.service.internal.anotations.a=b":           "additional properties 'anotations' not allowed",
		"controller.service.internal.nodePorts.http=70000":     "'/controller/service/internal/nodePorts/http'",
		"controller.service.internal.ports.htp=80":             "additional properties 'htp' not allowed",
		"controller.service.clusterIPs={a,b,c}":                "'/controller/service/clusterIPs': maxItems",
		"controller.proxyProtocol.trusted={10.0.0.1}":          "'/controller/proxyProtocol/trusted/0'",
		"controller.scope.namespaces={a,a}":                    "'/controller/scope/namespaces': items at 0 and 1 are equal",
		"controller.scope.namespaces={A_1}":                    "'/controller/scope/namespaces/0'",
		"controller.defaultBackendService=errors":              "'/controller/defaultBackendService'",
		"controller.electionTTL=soon":                          "'/controller/electionTTL'",
		"controller.addHeaders.a b=c":                          "invalid propertyName 'a b'",
		"controller.networkPolicy.clientsFrom[0].cidr=a":       "additional properties 'cidr' not allowed",
		"controller.ingressClassResource.aliases={A}":          "'/controller/ingressClassResource/aliases/0'",
		// By the templates, because more than one value is at fault.
		"controller.terminationGracePeriodSeconds=250":                                                   "must be more than drainDelaySeconds + shutdownTimeoutSeconds (250)",
		"controller.extraArgs.http-address=x":                                                            "set controller.containerPort.http instead",
		"controller.extraArgs.publish-service=x":                                                         "set controller.publishService instead",
		"controller.extraArgs.watch-namespace=x":                                                         "set controller.scope instead",
		"rbac.scope=true":                                                                                "set controller.scope.enabled too",
		"controller.service.enableHttp=false,controller.service.enableHttps=false":                       "a Service needs a port",
		"rbac.scope=true,controller.scope.enabled=true,controller.service.enabled=false":                 "nodes cannot be read without a ClusterRole",
		"controller.drainDelaySeconds=300,controller.shutdownTimeoutSeconds=0,controller.kind=Pod":       "'/controller/kind'",
		"controller.keda.enabled=true":                                                                   "controller.keda.enabled: Make a ScaledObject",
		"controller.scope.namespaceSelector=a=b":                                                         "Namespaces cannot be chosen by label",
		"controller.scope.enabled=true,controller.scope.namespace=a,controller.scope.namespaces={b}":     "set this or controller.scope.namespaces",
		"controller.scope.enabled=true,controller.publishService.pathOverride=b/x":                       "b is neither",
		"controller.scope.enabled=true,controller.defaultBackendService=b/x":                             "b is neither",
		"controller.networkPolicy.enabled=true,controller.hostNetwork=true":                              "network policies do not reach Pods with controller.hostNetwork",
		"controller.addHeaders.a=b,controller.config.add-headers=c/d":                                    "set one of the two",
		"controller.service.internal.enabled=true":                                                       "would be a second public one",
		"controller.service.nodePorts.tcp.8080=30080":                                                    "controller.service.nodePorts.tcp: Podlane proxies no other TCP",
		"controller.service.internal.nodePorts.udp.53=30053":                                             "controller.service.internal.nodePorts.udp: Podlane proxies no UDP",
		"controller.proxyProtocol.enabled=true":                                                          "controller.proxyProtocol.trusted: name the address ranges",
		"controller.extraArgs.use-proxy-protocol=true":                                                   "set controller.proxyProtocol.enabled instead",
		"controller.containerPort.http=80":                                                               "listening below 1024 needs a privilege",
		"controller.containerPort.http=9090":                                                             "they must differ",
		"controller.kind=DaemonSet,controller.autoscaling.enabled=true":                                  "nothing to scale",
		"controller.kind=DaemonSet,controller.updateStrategy.type=Recreate":                              "a DaemonSet knows RollingUpdate and OnDelete",
		"controller.updateStrategy.type=OnDelete":                                                        "a Deployment knows RollingUpdate and Recreate",
		"controller.hostPort.enabled=true,controller.updateStrategy.rollingUpdate.maxSurge=1":            "cannot start beside an old one",
		"controller.hostPort.enabled=true,controller.hostNetwork=true":                                   "set one of the two",
		"controller.autoscaling.enabled=true,controller.autoscaling.minReplicas=12":                      "must not be more than maxReplicas (11)",
		"controller.autoscaling.enabled=true,controller.resources=null":                                  "which is not set",
		"controller.autoscaling.enabled=true,controller.autoscaling.targetCPUUtilizationPercentage=null": "nothing to scale by",
		"controller.lifecycle.preStop.exec.command={/wait-shutdown}":                                     "a program of ingress-nginx's image",
	} {
		_, err := tools.Template(t.Context(), standard(set))
		if err == nil {
			t.Errorf("%s is accepted", set)
		} else if !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v\nwant %q", set, err, want)
		}
	}
}

// TestSubchart: a parent chart hands `global` to every chart below it, whose schema has to let it pass.
func TestSubchart(t *testing.T) {
	t.Parallel()
	image := podOf(t, template(t, standard("global.other=x", "global.image.registry=mirror.example.com"))).Containers[0].Image
	if image != "mirror.example.com/podlane/podlane:v0.1.0" {
		t.Errorf("with a registry for all charts the image is %s", image)
	}
}
