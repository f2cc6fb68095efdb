package router

// AppRootFamily is the name of the policy family whose value is a string: the path that clients are sent to in the place of /, "" for none.
const AppRootFamily = "app-root"
