import { functionsIn, itIsLinear, ofText, type Reader } from '../../test/support/bounded-time';
import { isLoopback, isLoopbackAddress, isPublicAddress } from './ip-addresses';

const readers: Record<string, Reader> = {
  isLoopback: ofText(isLoopback),
  isLoopbackAddress: ofText(isLoopbackAddress),
  isPublicAddress: ofText(isPublicAddress),
};

describe('an address is read in time linear in its length', () => {
  it('by every function that there is', () => expect(Object.keys(readers)).toEqual(functionsIn(__dirname)));

  itIsLinear(readers, 17, 20);
});
