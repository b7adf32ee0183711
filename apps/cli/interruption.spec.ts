import { Interrupted, interruption } from './interruption';

it.each(['SIGINT', 'SIGTERM'] as const)('%s asks the command to stop; a second one ends it', (signal) => {
  const listeners = process.listenerCount(signal);
  const asked = interruption();
  expect(asked.aborted).toBe(false);
  process.emit(signal);
  expect(asked.aborted).toBe(true);
  expect(asked.reason).toBeInstanceOf(Interrupted);
  expect(process.listenerCount('SIGINT')).toBe(listeners);
  expect(process.listenerCount('SIGTERM')).toBe(listeners);
});
