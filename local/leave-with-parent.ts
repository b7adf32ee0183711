/**
 * Preloaded into every app of the launcher (`node --require`): when the launcher is killed, the channel to it closes,
 * and the app stops too, gracefully if it can.
 */
process.once('disconnect', () => {
  setTimeout(() => process.exit(1), 10_000).unref();
  process.kill(process.pid, 'SIGTERM');
});
// The channel alone is no reason to stay.
process.channel?.unref();
