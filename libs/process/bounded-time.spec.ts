import type { IncomingMessage } from 'node:http';
import { itIsLinear, ofText, type Reader } from '../../test/support/bounded-time';
import { Pages } from './pages';
import { requestId, withoutAddresses, withoutKeys } from './request-id';

const pages = new Pages({ directory: '/nothing', pages: { '/': 'index.html' }, fallback: '/' });

const readers: Record<string, Reader> = {
  requestId: ofText((text) => requestId({ headers: { 'x-request-id': text } } as unknown as IncomingMessage)),
  withoutAddresses: ofText(withoutAddresses),
  withoutKeys: ofText(withoutKeys),
  'Pages.fallBack': ofText((text) =>
    [text, `/${text}`].map((url) =>
      pages.fallBack({ method: 'GET', url, headers: { accept: text } } as never, {} as never),
    ),
  ),
};

describe('a header or a path is read in time linear in its length', () => itIsLinear(readers, 17, 60));
