import { functionsIn, itIsLinear, ofText, type Reader } from '../../test/support/bounded-time';
import { isLockTimeout, isPassingFault, postgresFault } from './postgres-fault';

const errorOf = (text: string) => Object.assign(new Error(text), { code: text });

const readers: Record<string, Reader> = {
  isLockTimeout: ofText((text) => isLockTimeout(errorOf(text))),
  isPassingFault: ofText((text) => isPassingFault(errorOf(text))),
  postgresFault: ofText((text) => postgresFault(errorOf(text))),
};

describe('an error of PostgreSQL is sorted in time linear in its length', () => {
  it('by every function that there is', () =>
    expect(Object.keys(readers)).toEqual(functionsIn(__dirname, (file) => file === 'postgres-fault.ts')));

  itIsLinear(readers, 17, 40);
});
