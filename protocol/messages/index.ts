export * from './chunkserver-master.js';
export * from './client-master.js';
export * from './clone.js';
export * from './coherence.js';
export * from './data.js';
export * from './inspection.js';
export * from './trash.js';
export * from './types.js';
