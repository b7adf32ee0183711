import type { IncomingMessage } from 'node:http';
import { itIsLinear, ofText, type Reader } from '../../test/support/bounded-time';
import { requestId, withoutKeys } from './request-id';

const readers: Record<string, Reader> = {
  requestId: ofText((text) => requestId({ headers: { 'x-request-id': text } } as unknown as IncomingMessage)),
  withoutKeys: ofText(withoutKeys),
};

describe('a header or a path is read in time linear in its length', () => itIsLinear(readers, 17, 60));
