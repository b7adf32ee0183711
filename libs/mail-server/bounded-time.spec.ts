import { functionsIn, itIsLinear, ofName, type Reader } from '../../test/support/bounded-time';
import { unicodeLabels } from './mail-server.migration';

const readers: Record<string, Reader> = { unicodeLabels: ofName(unicodeLabels) };

describe('a domain is given to the mail server in time linear in the length of its name', () => {
  it('by every function that there is', () => expect(Object.keys(readers)).toEqual(functionsIn(__dirname)));

  itIsLinear(readers, 17, 40);
});
