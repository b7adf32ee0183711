import { setTimeout as delay } from 'node:timers/promises';
import type { Turns } from '@app/ses';

/** Lets each call of SES begin at once, for tests that are about something else than the rate. */
export const atOnce: Turns = {
  take: ({ signal }) => {
    signal?.throwIfAborted();
    return Promise.resolve();
  },
  slowDown: () => delay(100),
};
