import { isPassingFault } from '@app/database';
import { backOffMs, type BackOff } from '@app/runtime';
import { eventTypeOf, fromCloudEvent, type ReceivedMessage } from './cloud-event';
import { pause } from './log-reader';
import { parkedEvent, parkedRaw, type MessageToPark } from './parked-messages';

/** Gives what to park of a message: its event, or the whole message when it is not an event. */
export function messageToPark(topic: string, received: ReceivedMessage): MessageToPark {
  try {
    return parkedEvent(fromCloudEvent(received));
  } catch {
    return parkedRaw(topic, received, eventTypeOf(received));
  }
}

/**
 * Parks a message, and retries while the database is away: its offset must not be committed before it is parked.
 *
 * @param away is called at each failure that is due to the database.
 * @throws {Error} what parking throws when the database is not the reason, or when the signal has aborted.
 */
export async function parkOnceDatabaseAnswers(
  park: () => Promise<void>,
  { backOff, signal, away }: { readonly backOff: BackOff; readonly signal: AbortSignal; readonly away: () => void },
): Promise<void> {
  for (let failures = 1; ; failures++) {
    try {
      return await park();
    } catch (error) {
      if (!isPassingFault(error) || signal.aborted) throw error;
      away();
      await pause(backOffMs(backOff, failures), signal);
    }
  }
}
