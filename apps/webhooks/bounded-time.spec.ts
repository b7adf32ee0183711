import { functionsIn, itIsLinear, ofText, type Reader } from '../../test/support/bounded-time';
import { retryAfterOf } from './retry-times';

const readers: Record<string, Reader> = { retryAfterOf: ofText(retryAfterOf) };

/** What reads nothing that others wrote, or only what the HTTP client and the resolvers have bounded. */
const others = ['countTry', 'measureLanes', 'noteFirstTry', 'pinnedConnector', 'resolversAt', 'waitMs'];

describe('what endpoints answer is read in time linear in its length', () => {
  it('by every function that there is', () =>
    expect([...Object.keys(readers), ...others].sort()).toEqual(
      functionsIn(__dirname, (file) => !file.endsWith('main.ts')),
    ));

  itIsLinear(readers, 17, 20);
});
