import { itIsLinear, ofText, type Reader } from '../../test/support/bounded-time';
import { isPageAddress, nameInZone, zoneOf } from './names';
import { cut, partsOf } from './text';
import { localToTime, secondsUntil } from './time';

const readers: Record<string, Reader> = {
  partsOf: ofText(partsOf),
  cut: ofText((text) => cut(text, 300)),
  nameInZone: ofText((text) => nameInZone(text, 'acme.com')),
  'nameInZone, of a zone': ofText((text) => nameInZone('mail.acme.com', text)),
  zoneOf: ofText((text) => zoneOf({ name: text, host: 'mail' })),
  isPageAddress: ofText(isPageAddress),
  localToTime: ofText(localToTime),
  secondsUntil: ofText((text) => secondsUntil(text, 0)),
};

describe('a page reads what it shows in time linear in its length', () => itIsLinear(readers, 43, 60));
