/**
 * Is preloaded into every app of the launcher (`node --require`). When the launcher is killed, the channel to it
 * closes, and the app stops too, gracefully if it can.
 */
process.once('disconnect', () => {
  setTimeout(() => {
    process.stderr.write('It ends with status 1: its launcher is gone, and it has not stopped in order within 10 s.\n');
    process.exit(1);
  }, 10_000).unref();
  process.kill(process.pid, 'SIGTERM');
});
// The channel alone must not keep the app running.
process.channel?.unref();
