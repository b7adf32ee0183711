/** The work stopped at a safe point because somebody asked it to; the message says what is left, and how to go on. */
export class Interrupted extends Error {
  override readonly name = 'Interrupted';
}

/**
 * Aborted by the first SIGINT (Ctrl-C) or SIGTERM, with an `Interrupted` as its reason. A command that asks for it stops at its
 * next safe point by itself, and ends with exit status 130. A second signal ends the process as if nobody had asked.
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
