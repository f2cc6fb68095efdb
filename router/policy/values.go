package policy

// Values are the annotations of one Ingress that belong to one Family, keyed by Key.Name.
type Values map[string]string
