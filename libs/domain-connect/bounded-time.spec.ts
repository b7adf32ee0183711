import { functionsIn, itIsLinear, ofText, type Reader } from '../../test/support/bounded-time';
import { DomainConnect } from './domain-connect';
import { variablesOf } from './template';

const domain = { name: 'mail.acme.com', team: 't', dkimTokens: ['a', 'b', 'c'], dkimZone: 'z', sesRegion: 'r' };

const connectOf = (text: string) => {
  const answer = () => Promise.resolve({ kind: 'records', records: [text, `127.0.0.1:${text}`], aliases: [] } as const);
  const options = { providers: ['x'], key: undefined as never, keyName: 'k', loopback: true, returnTo: 'https://x' };
  return new DomainConnect([{ txt: answer, a: answer, aaaa: answer }], options);
};

const readers: Record<string, Reader> = {
  'DomainConnect.linkFor': ofText((text) => connectOf(text).linkFor(domain, 'acme.com', 'v=DMARC1; p=none')),
  variablesOf: ofText((text) => [text, `v=DMARC1;${text}`].map((dmarc) => variablesOf(domain, dmarc))),
};

/** What reads nothing that others wrote, or only what was read by one of those above. */
const others = ['applyUrl', 'groupsOf', 'pinnedGet'];

describe('what a zone says of its provider is read in time linear in its length', () => {
  it('by every function that there is', () =>
    expect([...Object.keys(readers).filter((name) => !name.includes('.')), ...others].sort()).toEqual(
      functionsIn(__dirname),
    ));

  itIsLinear(readers, 17, 20);
});
