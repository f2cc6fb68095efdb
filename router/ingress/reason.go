package ingress

// The reasons. The set is closed: Reasons lists it.
const (
	// ClassNotFound: spec.ingressClassName names no IngressClass among the objects that were read.
	ClassNotFound Reason = "ClassNotFound"
	// ClassConflict: the annotation kubernetes.io/ingress.class makes the Ingress ours, spec.ingressClassName somebody else's.
	ClassConflict Reason = "ClassConflict"
	// TooLarge: the Ingress is beyond a limit.
	TooLarge Reason = "TooLarge"

	// InvalidHost: a host is not a lower-case DNS name, or its wildcard is not the whole first label.
	InvalidHost Reason = "InvalidHost"
	// InvalidPath: a path that no request could have, or that the API server refuses.
	InvalidPath Reason = "InvalidPath"
	// InvalidPathType: pathType is missing or unknown.
	InvalidPathType Reason = "InvalidPathType"
	// PathNormalized: the path is matched in another, canonical form than the one that was written.
	PathNormalized Reason = "PathNormalized"
	// PathNotPattern: the path looks like a pattern, but is matched literally.
	PathNotPattern Reason = "PathNotPattern"
	// PathConflict: an older Ingress, or an earlier rule, has the same host, path and type.
	PathConflict Reason = "PathConflict"
	// DefaultBackendConflict: an older Ingress has the default backend of the same host, or the catch-all.
	DefaultBackendConflict Reason = "DefaultBackendConflict"

	// InvalidPattern: a path that is a regular expression cannot be run as one.
	InvalidPattern Reason = "InvalidPattern"
	// CompatPattern: a path is read as a pattern because ingress-nginx does so.
	CompatPattern Reason = "CompatPattern"
	// CompatSlash: requests are sent to the path with a slash because nginx does so.
	CompatSlash Reason = "CompatSlash"
	// CompatAppRoot: requests for / are sent away for the whole host because ingress-nginx does so.
	CompatAppRoot Reason = "CompatAppRoot"
	// CanaryUnused: a canary shares no requests.
	CanaryUnused Reason = "CanaryUnused"

	// AliasConflict: a further name of a host is somebody else's, or none.
	AliasConflict Reason = "AliasConflict"

	// NoBackend: a rule without paths, in an Ingress without a default backend.
	NoBackend Reason = "NoBackend"
	// BackendInvalid: a backend has no Service, or not exactly one of port name and number.
	BackendInvalid Reason = "BackendInvalid"
	// BackendResource: a backend is a resource, which Podlane does not serve.
	BackendResource Reason = "BackendResource"
	// ServiceMissing: there is no Service of that name in the Ingress's namespace.
	ServiceMissing Reason = "ServiceMissing"
	// PortMissing: the Service has no such TCP port.
	PortMissing Reason = "PortMissing"
	// ExternalNameRefused: the Service is of type ExternalName, which the operator does not allow, or names this machine.
	ExternalNameRefused Reason = "ExternalNameRefused"

	// UnknownAppProtocol: the appProtocol of the Service's port is none that Podlane knows.
	UnknownAppProtocol Reason = "UnknownAppProtocol"

	// SecretMissing: there is no Secret of that name in the Ingress's namespace.
	SecretMissing Reason = "SecretMissing"
	// SecretInvalid: the Secret does not hold what it is named for, such as a certificate and its key in tls.crt and tls.key.
	SecretInvalid Reason = "SecretInvalid"
	// SecretForbidden: the Secret's name names another namespace.
	SecretForbidden Reason = "SecretForbidden"
	// CertificateConflict: another Ingress decides the certificate of the host.
	CertificateConflict Reason = "CertificateConflict"
	// CertificateMismatch: the certificate does not cover the host.
	CertificateMismatch Reason = "CertificateMismatch"
	// CertificateExpired: the certificate's time is over. CertificateEarly: it has not begun.
	CertificateExpired Reason = "CertificateExpired"
	CertificateEarly   Reason = "CertificateEarly"
	// ClientAuthConflict: another Ingress decides which clients the host admits.
	ClientAuthConflict Reason = "ClientAuthConflict"
	// CiphersUnknown: some of the cipher suites that a host shall offer are none that could be.
	CiphersUnknown Reason = "CiphersUnknown"
	// CiphersConflict: another Ingress decides which cipher suites the host offers.
	CiphersConflict Reason = "CiphersConflict"
	// PassthroughRefused: TLS does not pass through where an annotation asks for it.
	PassthroughRefused Reason = "PassthroughRefused"
	// NoCertificate: spec.tls names no Secret and the operator gave no default certificate.
	NoCertificate Reason = "NoCertificate"

	// UnsupportedAnnotation: an annotation under our prefixes that no family knows.
	UnsupportedAnnotation Reason = "UnsupportedAnnotation"
	// InvalidAnnotation: a value that does not parse.
	InvalidAnnotation Reason = "InvalidAnnotation"
	// OverriddenAnnotation: another prefix sets the same key to another value, and wins.
	OverriddenAnnotation Reason = "OverriddenAnnotation"
	// PolicyFailed: reading a family's values, or the Ingress, failed in a way that is Podlane's fault, not the user's.
	PolicyFailed Reason = "PolicyFailed"

	// RefusedAnnotation: an annotation that Podlane knows, and does not obey on purpose.
	RefusedAnnotation Reason = "RefusedAnnotation"
	// ConfigMapMissing: an annotation names a ConfigMap that does not exist.
	ConfigMapMissing Reason = "ConfigMapMissing"
	// ConfigMapForbidden: it names one of another namespace.
	ConfigMapForbidden Reason = "ConfigMapForbidden"

	// UnsupportedSetting: a key of the operator's ConfigMap that Podlane does not know.
	UnsupportedSetting Reason = "UnsupportedSetting"
	// InvalidSetting: a value of it that does not parse.
	InvalidSetting Reason = "InvalidSetting"
	// RefusedSetting: a key of it that Podlane knows, and does not obey on purpose.
	RefusedSetting Reason = "RefusedSetting"
	// InvalidOption: an option of the operator's names nothing that can be used.
	InvalidOption Reason = "InvalidOption"

	// MassRemoval: one step would remove more hosts or endpoints than the operator lets go at once.
	MassRemoval Reason = "MassRemoval"

	// ManifestInvalid: a file, or a document in it, cannot be read. The objects in it are missing from the Snapshot.
	ManifestInvalid Reason = "ManifestInvalid"
	// NotManifest: a document that is not a Kubernetes object.
	NotManifest Reason = "NotManifest"
	// NoService: an EndpointSlice that names no Service.
	NoService Reason = "NoService"
	// UnknownField: a field that the kind does not have, or one that is there twice.
	UnknownField Reason = "UnknownField"
	// OldVersion: an API version that API servers do not serve any more. Ingresses and IngressClasses are converted.
	OldVersion Reason = "OldVersion"
	// DuplicateObject: the same object is there twice; the first is used.
	DuplicateObject Reason = "DuplicateObject"
)

// Reasons returns the closed set of Reasons, in the order in which they are declared.
func Reasons() []Reason {
	return []Reason{
		ClassNotFound, ClassConflict, TooLarge,
		InvalidHost, InvalidPath, InvalidPathType, PathNormalized, PathNotPattern, PathConflict, DefaultBackendConflict,
		InvalidPattern, CompatPattern, CompatSlash, CompatAppRoot, CanaryUnused, AliasConflict,
		NoBackend, BackendInvalid, BackendResource, ServiceMissing, PortMissing, ExternalNameRefused, UnknownAppProtocol,
		SecretMissing, SecretInvalid, SecretForbidden, CertificateConflict, CertificateMismatch, CertificateExpired, CertificateEarly, ClientAuthConflict, CiphersUnknown, CiphersConflict, PassthroughRefused, NoCertificate,
		UnsupportedAnnotation, InvalidAnnotation, OverriddenAnnotation, PolicyFailed, RefusedAnnotation, ConfigMapMissing, ConfigMapForbidden,
		UnsupportedSetting, InvalidSetting, RefusedSetting, InvalidOption, MassRemoval,
		ManifestInvalid, NotManifest, NoService, UnknownField, OldVersion, DuplicateObject,
	}
}
