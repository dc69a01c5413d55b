/** Verbs that ublk says to itself: what `launch.ts` starts begins with one of them. */

/** The hidden verb behind which the daemon lives. */
export const DAEMON_VERB = "daemon";
/** The hidden verb that starts a server, watches it, and starts the next one. */
export const SUPERVISE_VERB = "supervise";
/** The hidden verb that ends a device on behalf of its own daemon. */
export const END_VERB = "end";
/** The hidden verb of a foreground server that lives no longer than whoever started it. */
export const TIED_VERB = "tied";
