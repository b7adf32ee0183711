/**
 * Thrown when a signal has stopped a command at a safe point. The message says what is left to do, and how to resume.
 */
export class Interrupted extends Error {
  override readonly name = 'Interrupted';
}

/**
 * Gives a signal that is aborted by the first SIGINT (Ctrl-C) or SIGTERM, with an `Interrupted` as its reason. A
 * command that uses it stops at its next safe point, and ends with exit status 130. A second SIGINT or SIGTERM ends the
 * process at once.
 */
export function interruption(): AbortSignal {
  const controller = new AbortController();
  const stop = () => {
    process.off('SIGINT', stop).off('SIGTERM', stop);
    controller.abort(new Interrupted('Interrupted.'));
  };
  process.on('SIGINT', stop).on('SIGTERM', stop);
  return controller.signal;
}
