import { itIsLinear, ofText, type Reader } from '../../test/support/bounded-time';
import { fromCloudEvent } from './cloud-event';
import { describeError } from './describe-error';
import { assertAccepted } from './sasl-oauthbearer';

/** Gives what is read, or why it is refused. */
function outcomeOf(read: () => unknown): unknown {
  try {
    return read();
  } catch (error) {
    return (error as Error).message;
  }
}

const subject = 'mdom_cl0000000000000000000000000';
const headers = {
  ce_specversion: '1.0',
  ce_type: 'com.sendmux.DomainAdded',
  ce_subject: subject,
  ce_streamversion: '1',
  ce_id: `${subject}/1`,
};

const readers: Record<string, Reader> = {
  assertAccepted: ofText((text) => outcomeOf(() => assertAccepted(Buffer.from(text)))),
  describeError: ofText((text) => describeError(new Error(text))),
  fromCloudEvent: ofText((text) => [
    outcomeOf(() => fromCloudEvent({ headers: { ...headers, ce_time: text }, value: Buffer.from(text) })),
    outcomeOf(() => fromCloudEvent({ headers: { ...headers, ce_dataschema: text }, value: null })),
  ]),
};

describe('a message or a line is read in time linear in its length', () => itIsLinear(readers, 17, 40));
