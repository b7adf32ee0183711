import { itIsLinear, ofText, type Reader } from '../../test/support/bounded-time';
import { knownTraceparent } from './traceparent';
import { originOf } from './tracing';

const readers: Record<string, Reader> = {
  knownTraceparent: ofText((text) => [text, `00-${text}`].map(knownTraceparent)),
  originOf: ofText((text) => originOf(text, new Date(0))),
};

describe('a context of a trace is read in time linear in its length', () => itIsLinear(readers, 17, 40));
