//! What the operator may do: exactly what it does. The chart's roles are compared with this list by a test.

/// One kind of object and the verbs used on it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Rule {
    /// API group; empty: core.
    pub group: &'static str,
    /// Resource.
    pub resource: &'static str,
    /// Verbs.
    pub verbs: &'static [&'static str],
    /// Where they are used.
    pub used: &'static str,
}

/// In every namespace with pipelines.
pub const PIPELINES: &[Rule] = &[
    Rule {
        group: "eventpipeline.dev",
        resource: "eventpipelines",
        verbs: &["list", "watch"],
        used: "controller: what is wanted",
    },
    Rule {
        group: "eventpipeline.dev",
        resource: "eventpipelines/status",
        verbs: &["patch"],
        used: "publish: what is",
    },
    Rule {
        group: "eventpipeline.dev",
        resource: "eventpipelines/finalizers",
        verbs: &["update"],
        used: "build: children that block their owner's deletion, where OwnerReferencesPermissionEnforcement is on",
    },
    Rule {
        group: "apps",
        resource: "deployments",
        verbs: &["create", "get", "list", "patch", "watch"],
        used: "fetch, apply (an apply of what is not there is a create), controller",
    },
    Rule {
        group: "",
        resource: "configmaps",
        verbs: &["create", "delete", "list", "patch", "watch"],
        used: "fetch, apply, prune, controller",
    },
    Rule {
        group: "",
        resource: "serviceaccounts",
        verbs: &["create", "get", "list", "patch", "watch"],
        used: "fetch, apply, controller",
    },
    Rule {
        group: "",
        resource: "pods",
        verbs: &["list", "watch"],
        used: "controller: where workers are, and what is wrong with them",
    },
    Rule {
        group: "",
        resource: "namespaces",
        verbs: &["get"],
        used: "fetch: UID of a pipeline's namespace, by which a checkpoint knows its owner",
    },
    Rule {
        group: "events.k8s.io",
        resource: "events",
        verbs: &["create", "patch"],
        used: "publish: flips of conditions; a repeated one is patched",
    },
];

/// In the operator's own namespace.
pub const OWN: &[Rule] = &[Rule {
    group: "coordination.k8s.io",
    resource: "leases",
    verbs: &["create", "get", "update"],
    used: "leader",
}];
